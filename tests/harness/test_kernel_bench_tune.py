"""Crossovers from times, and the table that selection reads, written and read back."""

import json

import pytest
from click.testing import CliRunner

from fp4moe.select import MoeShape
from fp4moe.select.tuned import find_tuned, parse_tuned
from harness.cli.kernels_tune import tune
from harness.errors import UsageError
from harness.kernel_bench.crossovers import NoCrossoversError, Time, best_layout, crossovers
from harness.kernel_bench.results import BenchWriter
from kernel_bench_rows import curve, info
from kernel_bench_rows import row as invented_row

SHAPE = MoeShape(4096, 14336, 8, 2)


def times(**kernels):
    """Kernel -> {tokens: microseconds}, each with a spread of 1 %."""
    return {name: {tokens: Time(us, us / 100) for tokens, us in own.items()} for name, own in kernels.items()}


def test_the_fastest_kernel_of_each_count_as_ranges():
    found = crossovers(times(few={1: 10, 8: 20, 64: 90}, many={1: 30, 8: 40, 64: 50}), {"many"})
    assert found == [(8, "few"), (None, "many")]


def test_one_kernel_is_one_range():
    assert crossovers(times(only={1: 10, 64: 50}), {"only"}) == [(None, "only")]


def test_ties_within_the_spread_go_to_fewer_switches():
    # At 4 tokens b is faster by .5 % where the quartiles reach .5 % each: a tie, so a keeps its range.
    found = crossovers(times(a={1: 10, 4: 20.1, 16: 30, 64: 90}, b={1: 20, 4: 20.0, 16: 40, 64: 50}), {"a", "b"})
    assert found == [(16, "a"), (None, "b")]


def test_a_real_difference_is_not_a_tie():
    found = crossovers(times(a={1: 10, 4: 22, 16: 30, 64: 90}, b={1: 20, 4: 20, 16: 40, 64: 50}), {"a", "b"})
    assert found == [(1, "a"), (4, "b"), (16, "a"), (None, "b")]


def test_a_kernel_with_a_limit_never_takes_any_number():
    found = crossovers(times(few={1: 10, 128: 20}, many={1: 30, 128: 40}), {"many"})
    assert found == [(128, "few"), (None, "many")]


def test_a_count_that_a_kernel_does_not_take_is_another_ones():
    found = crossovers(times(few={1: 10}, many={1: 30, 128: 40}), {"many"})
    assert found == [(1, "few"), (None, "many")]


def test_no_kernel_for_any_number_is_an_error():
    with pytest.raises(NoCrossoversError, match="any number of tokens was measured at 128.*few"):
        crossovers(times(few={1: 10, 128: 20}), {"many"})


def test_the_layout_with_the_least_time_wins():
    layouts = {
        "fragments": times(decode={1: 10, 64: 90}, grouped={1: 30, 64: 50}),
        "rows": times(triton={1: 20, 64: 60}),
        "incomplete": times(small={1: 1, 64: 1}),
    }
    # 10 * 50 < 20 * 60; `incomplete` has no kernel for any number
    assert best_layout(layouts, {"grouped", "triton"}) == "fragments"


@pytest.fixture
def folder(tmp_path):
    """An invented bench of two layouts, with a peer and the reference, which are no candidates."""
    writer = BenchWriter(tmp_path / "bench", info())
    rows = curve("cuda-fragments-decode", 250, 5.6, up_to=128, layout="fragments")
    rows += curve("cuda-fragments-grouped", 300, 1.1, layout="fragments")
    rows += curve("triton-grouped", 420, 1.6) + curve("vllm-marlin", 10, 0.1, is_peer=True, layout="vllm-marlin")
    rows += [invented_row("reference", 1, 50.0, is_reference=True)]
    for one in rows:
        writer.append(one)
    return tmp_path / "bench"


def invoke(*arguments):
    done = CliRunner().invoke(tune, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_table_is_read_back_by_selection(folder, tmp_path):
    out = tmp_path / "tuned" / "h200.json"
    shown = invoke("--from", folder, "--out", out, "--record", "results/baselines/kernels/mine.jsonl")
    assert "layout fragments" in shown and '+          "name": "cuda-fragments-decode"' in shown and f"wrote {out}" in shown
    entry = find_tuned("NVIDIA H200", "nvfp4", "bf16", SHAPE, table=parse_tuned(out.read_text(), out.name))
    # 5.6 us a token passes 300 us between 32 and 64 tokens
    assert entry.crossovers == ((32, "cuda-fragments-decode"), (None, "cuda-fragments-grouped"))
    assert (entry.gpu, entry.record) == ("H200", "results/baselines/kernels/mine.jsonl")
    measured = json.loads(out.read_text())["entries"][0]["measured"]["microseconds"]
    assert measured.keys() == {"cuda-fragments-decode", "cuda-fragments-grouped", "triton-grouped"}
    assert measured["triton-grouped"]["4096"] == pytest.approx(4096 * 1.6, abs=0.01)


def test_another_layout_can_be_asked_for(folder, tmp_path):
    out = tmp_path / "h200.json"
    invoke("--from", folder, "--out", out, "--layout", "rows")
    assert json.loads(out.read_text())["entries"][0]["crossovers"] == [{"max_tokens": None, "name": "triton-grouped"}]
    with pytest.raises(UsageError, match="--layout.*fragments, rows.*got 'tiles'"):
        invoke("--from", folder, "--out", out, "--layout", "tiles")


def test_an_entry_of_the_same_shape_is_replaced_and_others_stay(folder, tmp_path):
    out = tmp_path / "h200.json"
    other = {"weights": "mxfp4", "activations": "bf16", "hidden": 4096, "intermediate": 14336, "num_experts": 8, "top_k": 2}
    other["crossovers"] = [{"max_tokens": None, "name": "triton-grouped"}]
    out.write_text(json.dumps({"gpu": "H200", "entries": [other, other | {"weights": "nvfp4"}]}))
    invoke("--from", folder, "--out", out)
    entries = json.loads(out.read_text())["entries"]
    assert entries[0] == other and [entry["weights"] for entry in entries] == ["mxfp4", "nvfp4"]
    assert len(entries[1]["crossovers"]) == 2
    assert "unchanged" in invoke("--from", folder, "--out", out)


def test_a_dry_run_writes_nothing(folder, tmp_path):
    out = tmp_path / "h200.json"
    shown = json.loads(invoke("--from", folder, "--out", out, "--dry-run", "--json"))
    assert not out.exists() and shown["is_written"] is False and "cuda-fragments-grouped" in shown["diff"]


def test_a_bench_without_kernels_has_nothing_to_tune(tmp_path):
    writer = BenchWriter(tmp_path / "bench", info())
    writer.append(invented_row("reference", 1, 50.0, is_reference=True))
    with pytest.raises(NoCrossoversError, match="nothing to tune"):
        invoke("--from", tmp_path / "bench", "--out", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()
