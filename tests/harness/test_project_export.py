"""data/calibration.json: taken from whatever records are there, and the committed one is what the committed records give."""

import json
from pathlib import Path

import projection_figures as figures
import pytest

from harness.claims.evidence import gather
from harness.errors import RunFolderError
from harness.kernel_bench.results import BenchWriter
from harness.project import export
from harness.project.curves import all_curves, curve_from, data_file, merged_widths
from harness.project.engines import _recorded
from kernel_bench_rows import CEILINGS, curve
from kernel_bench_rows import row as invented_row

H100 = "NVIDIA H100 80GB HBM3"


def bench(folder: Path, *, gpu=H100, routing="uniform", model="mixtral-8x7b", rows=None) -> Path:
    """A folder of `harness kernels bench` with invented times."""
    facts = {"device": {"name": gpu}, "request": {"model": model, "routing": routing}, "ceilings": CEILINGS.to_json()}
    writer = BenchWriter(folder, facts)
    for row in rows or [*curve("cuda-fragments-decode", 300, 2, up_to=128), *curve("cuda-fragments-grouped", 330, 1.5)]:
        writer.append(row)
    return folder


def model_run(folder: Path, **changes) -> Path:
    """A run of mixtral-8x7b on an H100 with one request cell."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"schema_version": 1, "run_id": folder.name, "plan": {}}))
    names = ("output_throughput", "decode_throughput", "median_tpot_ms", "median_ttft_ms")
    arrival = {"kind": "closed", "concurrency": 8}
    record = {
        "cell_id": "a", "repeat": 0, "status": "ok", "model": "mixtral-8x7b", "backend": "native",
        "precision": {"id": "nvfp4-search-a16", "weights": "nvfp4", "activations": "bf16"},
        "workload": {"kind": "requests", "prompt_tokens": 128, "output_tokens": 64, "num_requests": 16, "arrival": arrival},
        "target": {"kind": "h100", "name": H100}, "verdict": {"state": "VALID"},
        "implementation": [{"op": "experts", "chosen": "cuda-fragments-grouped", "is_reference": False}],
        "metrics": {name: {"value": 10.0 + index} for index, name in enumerate(names)},
    }  # fmt: skip
    (folder / "records.jsonl").write_text(json.dumps(record | changes) + "\n")
    return folder


def test_a_new_bench_of_another_gpu_becomes_a_curve(tmp_path):
    bench(tmp_path / "kernels" / "h100-mixtral")
    data = export.collect(tmp_path)
    assert {row["gpu"] for row in data["curves"]} == {"H100"}
    assert {row["kernel"] for row in data["curves"]} == {"cuda-fragments-decode", "cuda-fragments-grouped"}
    (merged,) = merged_widths([curve_from(row) for row in data["curves"]])
    assert merged.kernel == "cuda-fragments" and merged.gpu == "H100" and len(merged.points) == 13
    by_kernel = {row["kernel"]: {p[0]: p[2] for p in row["points"]} for row in data["curves"]}
    assert all(p.us == min(times[p.tokens] for times in by_kernel.values() if p.tokens in times) for p in merged.points)
    assert merged.source == "results/baselines/kernels/h100-mixtral"


def test_no_layer_beats_the_product_ceiling_of_its_run(tmp_path):
    fast = invented_row("fast", 4096, 3600.0, format_id="mxfp4-a16")
    bench(tmp_path / "b", rows=[*curve("cuda-fragments-grouped", 330, 1.5), fast])
    found = export.collect(tmp_path)["curves"]
    assert [one["product_tflops"] for one in found] == [{"bf16": 801.7, "fp8": 1400.0}] * 2  # the library's BF16 product: 780


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"routing": "hot70"}, id="skewed-routing"),
        pytest.param({"model": "pocket-mixtral"}, id="another-model"),
        pytest.param({"gpu": "Intel(R) Xeon(R) Processor"}, id="no-gpu"),
    ],
)
def test_other_benches_calibrate_nothing(tmp_path, changes):
    bench(tmp_path / "b", **changes)
    assert export.collect(tmp_path)["curves"] == []


def test_a_whole_model_becomes_observations(tmp_path):
    model_run(tmp_path / "h100-whole")
    (row,) = export.collect(tmp_path)["models"]
    assert (row["gpu"], row["engine"], row["batch"], row["prompt"]) == ("H100", "native", 8, 128)
    assert row["repeats"] == 1 and row["arrival"] == "closed"
    (seen,) = _recorded([row])  # a first token of eight at once is no prefill time of one
    assert (seen.what, seen.ms, seen.curve_key) == ("tpot", 12.0, ("cuda-fragments", "nvfp4", "bf16"))


def test_all_at_once_gives_a_wall_time_and_one_request_a_first_token(tmp_path):
    """As scenarios of whole models on a GPU send them: throughput of a batch, first token of one prompt."""
    requests = {"kind": "requests", "prompt_tokens": 1024, "output_tokens": 32, "num_requests": 1}
    folder = model_run(tmp_path / "r", workload=requests | {"arrival": {"kind": "all_at_once", "max_slots": 1}}, backend="vllm")
    (row,) = export.collect(tmp_path)["models"]
    wall, first = _recorded([row])
    assert (wall.what, wall.ms) == ("wall", pytest.approx(32 / 10.0 * 1e3)) and (first.what, first.ms) == ("ttft", 13.0)
    assert wall.curve_key == ("vllm-marlin", "nvfp4", "bf16") and first.engine == "vllm"
    assert folder.name in row["source"]


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param({"arrival": {"kind": "poisson", "rate_per_s": 2.0}}, id="rate"),
        pytest.param({"prompt_tokens": {"kind": "uniform", "low": 1, "high": 9}}, id="drawn-lengths"),
    ],
)
def test_a_batch_that_is_not_known_calibrates_nothing(tmp_path, workload):
    base = {"kind": "requests", "prompt_tokens": 8, "output_tokens": 8, "num_requests": 4}
    model_run(tmp_path / "r", workload=base | {"arrival": {"kind": "closed", "concurrency": 1}} | workload)
    assert export.collect(tmp_path)["models"] == []


def test_stale_layers_are_marked_wherever_they_are_used(tmp_path):
    rows = [row | {"own_sources_sha256": "0" * 64} for row in curve("cuda-fragments-grouped", 330, 1.5)]
    bench(tmp_path / "b", rows=rows)
    (row,) = export.collect(tmp_path)["curves"]
    assert row["is_stale"] and "STALE" in curve_from(row).origin
    (merged,) = merged_widths([curve_from(row)])
    assert merged.is_stale


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": "failed"}, id="failed"),
        pytest.param({"verdict": {"state": "INVALID"}}, id="invalid"),
        pytest.param({"implementation": [{"op": "experts", "chosen": "reference", "is_reference": True}]}, id="reference"),
        pytest.param({"target": {"kind": "cpu", "name": "Xeon"}}, id="cpu"),
    ],
)
def test_a_run_that_says_nothing_of_a_gpu_is_left_out(tmp_path, changes):
    model_run(tmp_path / "r", **changes)
    assert export.collect(tmp_path)["models"] == []


def test_a_damaged_record_is_named(tmp_path):
    folder = model_run(tmp_path / "r")
    (folder / "records.jsonl").write_text("{\n\n")
    with pytest.raises(RunFolderError, match=r"records.jsonl:1: not valid JSON"):
        export.collect(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "fast"])
def test_a_metric_that_is_no_number_is_named_and_never_used(tmp_path, value):
    folder = model_run(tmp_path / "r", metrics={"median_tpot_ms": {"value": value}})
    with pytest.raises(RunFolderError, match=r"records.jsonl: a, repeat 0: median_tpot_ms must be a finite number or null"):
        gather([folder])


def test_a_time_that_is_no_number_is_named(tmp_path):
    rows = curve("cuda-fragments-grouped", 330, 1.5)
    rows[3]["us_median"] = float("nan")
    folder = bench(tmp_path / "b", rows=rows[:3])
    with (folder / "rows.jsonl").open("a") as file:
        file.write(json.dumps(rows[3]) + "\n")
    with pytest.raises(RunFolderError, match=r"cuda-fragments-grouped at 8 tokens: us_median must be a finite time"):
        export.collect(tmp_path)


def test_records_of_a_run_count_before_those_that_ship(tmp_path):
    folder = model_run(tmp_path / "mine")
    found = gather([folder])
    assert found.models[0]["source"] == str(folder)
    assert len(found.quality) == len(data_file("calibration.json")["quality"])


def test_records_come_before_tables():
    sources = [curve.source for curve in all_curves() if curve.key == ("vllm-marlin", "nvfp4", "bf16")]
    assert sources[0].startswith("results/baselines/")


def test_the_committed_file_is_what_the_records_give():
    advice = "run `python tests/projection_figures.py`"
    assert Path("harness/data/calibration.json").read_text(encoding="utf-8") == export.render(export.collect()), advice


def test_the_page_prints_what_the_model_gives():
    text = figures.PAGE.read_text(encoding="utf-8")
    assert figures.page(text) == text, "run `python tests/projection_figures.py`"


def test_the_committed_claims_are_those_of_today():
    data = json.loads((figures.REPORT / "claims.json").read_text(encoding="utf-8"))
    assert data["claims"] == [claim.to_json() for claim in figures.judged()], "run `python tests/projection_figures.py`"
    assert {claim["name"] for claim in data["claims"]} == {f"C{number}" for number in range(1, 11)}
