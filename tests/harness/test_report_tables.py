"""Tables as data: columns, dashes with reasons, verdicts, dropped and failed cells, kernels, definitions."""

import json
import sys

import pytest

from harness.crossovers import names_of, show_crossovers
from harness.record import read_run
from harness.report.cells import REFERENCE_SPEED, MeasuredCell, measured_cells
from harness.report.data import load
from harness.report.numbers import DASH
from harness.report.tables import backends, definitions, detail, experts, kernels, provenance, summary, verdicts
from harness.report.variants import variants
from report_fixture import A100, CRASH, RTX_5090, Spec, make_run


@pytest.fixture
def run(tmp_path):
    return load(make_run(tmp_path))


def texts(table):
    return [[entry.text for entry in row] for group in table.groups for row in group.rows]


def test_summary_has_the_article_s_columns_and_labels_reference_speed(run):
    table = summary.summary_table(variants(measured_cells([run])))
    assert table.headers[2:6] == (
        "Throughput (output)",
        "Time to first token",
        "Weights in memory",
        "Perplexity change",
    )
    rows = texts(table)
    assert [(row[0], row[1]) for row in rows][:3] == [
        ("BF16 × BF16", "single"),
        ("BF16 × BF16", "batch8"),
        ("NVFP4 × BF16", "single"),
    ]
    assert {row[6] for row in rows} == {REFERENCE_SPEED}
    assert [row[5] for row in rows] == ["baseline"] * 2 + ["+1.3"] * 2 + ["+2.9"] * 2
    assert [row[7] for row in rows][:2] == ["! WARN", "✓ VALID"]


def test_summary_entries_carry_spread_and_n(run):
    table = summary.summary_table(variants(measured_cells([run])))
    row = table.groups[0].rows[2]
    assert row[2].detail.endswith("n = 3 × 8") and "–" in row[2].detail
    assert row[5].detail == "95 %: +1.1 to +1.5, n = 65\u202f536 tokens"
    assert row[0].detail == "method search"


def test_missing_perplexity_is_a_dash_with_its_reason(tmp_path):
    run = load(make_run(tmp_path, Spec(weights_source="random")))
    table = summary.summary_table(variants(measured_cells([run])))
    entry = table.groups[0].rows[2][5]
    assert entry.text == DASH
    assert table.footnotes[entry.footnote - 1] == "random weights carry no perplexity"


def test_no_measured_null_turns_into_zero(run):
    table = detail.speed_table(variants(measured_cells([run])))
    column = table.headers.index("TTFT p99")
    singles = [row[column] for row in table.groups[0].rows if row[1].text == "single"]
    assert {entry.text for entry in singles} == {DASH}
    assert {table.footnotes[entry.footnote - 1] for entry in singles} == {"8 requests; a p99 needs 100"}
    assert all(row[1].detail == REFERENCE_SPEED for row in table.groups[0].rows)


def test_machines_table_has_a_column_a_target(tmp_path):
    gpu = Spec(target=RTX_5090, run_id="b", precisions=("bf16", "nvfp4"))
    runs = [load(make_run(tmp_path, Spec(target=A100, run_id="a"))), load(make_run(tmp_path, gpu))]
    table = summary.machines_table(variants(measured_cells(runs)))
    assert table.headers == ("Weights × activations", "A100-SXM4-80GB", "RTX 5090")
    mxfp4 = next(row for row in table.groups[0].rows if row[0].text == "MXFP4 × BF16")
    assert mxfp4[2].text == DASH
    assert table.footnotes == ("not planned or not run on RTX 5090",)


def test_one_target_needs_no_machines_table(run):
    assert summary.machines_table(variants(measured_cells([run]))) is None


def test_verdict_tables_list_failed_dropped_and_reasons(run):
    cells = measured_cells([run])
    assert texts(verdicts.failed_table(cells)) == [
        ["pocket-mixtral/native/mxfp4-search-a16/batch8/cpu", "Intel Xeon", "2", "worker_died", CRASH]
    ]
    assert [row[-1] for row in texts(verdicts.dropped_table([run]))] == [
        "needs sm_100 or newer; this machine has no GPU",
        "46.7 B parameters need a GPU with 93.4 GB free; this machine has no GPU",
    ]
    warned = texts(verdicts.cells_table(cells))[0]
    assert warned[1] == "! WARN"
    assert warned[2] == "3 of 8 requests were sent more than 20 ms late [send_lag] (3 of 3 repeats)"


def test_planned_cells_without_a_record_are_listed(tmp_path):
    path = make_run(tmp_path)
    lines = (path / "records.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["workload"]["name"] != "heldout"]
    (path / "records.jsonl").write_text("".join(kept))
    missing = texts(verdicts.not_run_table([load(path)]))
    assert len(missing) == 3
    assert all("/heldout/" in row[0] for row in missing)


def test_kernel_choices_name_the_refused_and_why(run):
    table = kernels.choices_table(measured_cells([run]))
    rows = texts(table)
    assert len(rows) == 6  # two ops of three precisions; equal rows of other workloads print once
    assert rows[1][1:] == ["experts", "reference", "triton-native: needs sm_100 or newer, this is cpu"]


def test_kernel_choices_say_how_many_tokens_take_which_and_why(tmp_path):
    (bf16, nvfp4) = measured_kernels(make_run(tmp_path, Spec(precisions=("bf16", "nvfp4"), target=RTX_5090)))
    assert (bf16.text, bf16.detail) == ("torch-grouped", "")
    assert nvfp4.text == "1 to 128: triton-decode; 129 and more: triton-upcast"
    assert nvfp4.detail == "measured on NVIDIA GeForce RTX 5090"


def measured_kernels(path):
    """The chosen entry of each precision's experts."""
    rows = kernels.choices_table(measured_cells([load(path)])).groups[0].rows
    return [row[2] for row in rows if row[1].text == "experts"]


def test_records_from_before_there_were_crossovers_are_still_shown():
    assert show_crossovers({"op": "gate_up", "chosen": "reference"}) == "reference"
    assert names_of({"op": "down", "chosen": "reference"}) == ["reference"]


def test_usage_table_has_every_statistic(run):
    table = experts.usage_table(measured_cells([run]))
    assert table.headers[2:] == ("Max / mean", "CV", "Gini", "Entropy", "Active a step", "Two hottest")
    row = next(row for row in table.groups[0].rows if row[1].text == "batch8")
    assert (row[6].text, row[6].unit) == ("6.30", "experts")
    assert row[1].detail == "phase decode"


def test_layers_and_cache_tables_cover_each_layer_and_size(run):
    cells = measured_cells([run])
    assert experts.layers_table(cells).num_rows == 9 * 5
    cache = experts.cache_table(cells)
    assert cache.num_rows == 6 * 8
    assert [entry.text for entry in cache.groups[0].rows[-1]][2:] == ["100", "100", "100", "32\u202f000"]


def test_definitions_cover_every_metric_of_the_records(run):
    table = definitions.definitions_table(measured_cells([run]))
    found = {row[0]: row[3] for row in texts(table)}
    assert "Output tokens over the wall time" in found["output_throughput"]
    assert "not defined in harness/metrics" not in found.values()


def test_definitions_may_be_absent(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "harness.metrics", None)
    assert definitions.definitions_table(measured_cells([run])) is None


def test_provenance_names_what_ran_and_dashes_what_is_unknown(tmp_path):
    run = load(make_run(tmp_path))
    run.info["provenance"]["host"] = None
    found = {row[0].text: row[1] for row in provenance.machines_table([run]).groups[0].rows}
    assert found["Git commit"].text == "0123456789ab with uncommitted changes"
    assert found["CPU"].text == "Intel(R) Xeon(R) Processor @ 2.60GHz, 2 cores, 8.00 GB"
    assert found["Libraries"].text == "torch 2.13.0, numpy 2.4.6"
    assert found["Seed"].text == "7"
    assert found["Host"].text == DASH


def engines_row(*records):
    cells = [MeasuredCell(None, record["cell_id"], "H100", (record,), ()) for record in records]
    (group,) = backends.engines_table(cells).groups
    (row,) = group.rows
    return dict(zip(backends.engines_table(cells).headers, row, strict=True))


@pytest.fixture
def native_records():
    """One record a workload of the committed run on an H100."""
    ours = [record for record in read_run("results/baselines/mixtral-8x7b-h100").records if record["backend"] == "native"]
    found = {record["workload"]["name"]: record for record in ours}
    return list(found.values())


def test_engines_table_tells_our_moe_attention_and_cache_from_the_record(native_records):
    row = engines_row(*native_records)
    assert row["MoE"].text == "1 to 64: cuda-fragments-decode; 65 and more: cuda-fragments-grouped"
    assert row["MoE"].detail.startswith("by tokens of a call; layout fragments; measured on H100")
    assert row["Attention"].text == "prompts: FlashAttention of PyTorch; decoding: slot_attention (Triton)"
    assert row["KV cache"].text == "33.7 MB to 8.59 GB"
    assert row["KV cache"].detail == "bf16, reserved for the longest request of every slot"


def test_engines_table_says_no_more_of_the_cache_than_the_engine_does(native_records):
    for record in native_records:
        del record["engine"]["kv_cache"]
    assert engines_row(*native_records)["KV cache"].detail == ""


def test_engines_table_keeps_the_word_of_other_engines(native_records):
    record = native_records[0]
    record["engine"] |= {
        "moe": {"chosen": "MARLIN", "candidates": ["A", "MARLIN"], "passed_over": []},
        "kv_cache": {"num_blocks": 10, "block_tokens": 16, "dtype": "auto"},
    }
    row = engines_row(record)
    assert row["MoE"].text == "MARLIN" and row["MoE"].detail == "of A, MARLIN" and row["KV cache"].text == "10 × 16 tokens"


def test_engines_table_says_not_told_where_the_record_is_silent(native_records):
    record = native_records[0] | {"implementation": [], "metrics": {}, "engine": {"name": "openai"}}
    row = engines_row(record)
    assert {row[name].text for name in ("MoE", "Attention", "KV cache")} == {"not told"}
