"""Records reduced to cells and variants: median and min-max, reasons, verdicts, targets."""

import json

import pytest

from harness.report.cells import measured_cells, short_target
from harness.report.data import load
from harness.report.variants import baseline_of, variants
from report_fixture import A100, CRASH, Spec, make_run


def cells_of(tmp_path, spec=None):
    return {(c.weights, c.workload): c for c in measured_cells([load(make_run(tmp_path, spec))])}


def test_number_is_median_and_range_over_repeats(tmp_path):
    path = make_run(tmp_path)
    lines = [json.loads(line) for line in (path / "records.jsonl").read_text().splitlines()]
    ours = [r for r in lines if (r["precision"]["weights"], r["workload"]["name"]) == ("nvfp4", "single")]
    values = sorted(record["metrics"]["output_throughput"]["value"] for record in ours)
    number = cells_of(tmp_path)["nvfp4", "single"].number("output_throughput")
    assert (number.low, number.median, number.high) == tuple(values)
    assert (number.num_repeats, number.num_samples, number.unit) == (3, 8, "tokens/s")


def test_null_keeps_its_reason_and_is_not_zero(tmp_path):
    number = cells_of(tmp_path)["nvfp4", "single"].number("p99_ttft_ms")
    assert number.median is None
    assert number.reason == "8 requests; a p99 needs 100"


def test_metric_absent_from_the_record_says_so(tmp_path):
    number = cells_of(tmp_path)["nvfp4", "single"].number("perplexity")
    assert number.median is None
    assert "not in the record" in number.reason


def test_failed_repeat_gives_no_figure_but_the_others_do(tmp_path):
    cell = cells_of(tmp_path)["mxfp4", "batch8"]
    assert cell.number("output_throughput").num_repeats == 2
    assert cell.error == f"worker_died: {CRASH}"
    assert cell.state == "VALID"


def test_cell_without_a_good_repeat_is_failed_with_its_error(tmp_path):
    cell = cells_of(tmp_path, Spec(failing=("*",)))["nvfp4", "heldout"]
    assert cell.state == "FAILED"
    assert CRASH in cell.number("perplexity").reason


def test_state_is_the_worst_and_reasons_count_repeats(tmp_path):
    cell = cells_of(tmp_path, Spec(invalid=("nvfp4/batch8",)))["nvfp4", "batch8"]
    assert cell.state == "INVALID"
    assert cell.reasons == ("relative error 0.3 against float64, bound 0.01 [wrong_output] (3 of 3 repeats)",)


def test_reference_router_alone_does_not_make_a_speed_the_reference_s(tmp_path):
    assert not cells_of(tmp_path, Spec(target=A100))["nvfp4", "single"].is_reference
    assert cells_of(tmp_path / "cpu")["nvfp4", "single"].is_reference


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Intel(R) Xeon(R) Processor @ 2.60GHz", "Intel Xeon"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("CPU", "CPU"),
    ],
)
def test_short_target(name, short):
    assert short_target(name) == short


def test_two_runs_of_one_target_stay_apart(tmp_path):
    runs = [load(make_run(tmp_path, Spec(run_id=name))) for name in ("first", "second")]
    assert {cell.target for cell in measured_cells(runs)} == {
        "Intel Xeon (run first)",
        "Intel Xeon (run second)",
    }


def test_baseline_is_of_the_same_target(tmp_path):
    runs = [
        load(make_run(tmp_path, Spec(run_id="cpu"))),
        load(make_run(tmp_path, Spec(run_id="gpu", target=A100))),
    ]
    everyone = variants(measured_cells(runs))
    for variant in everyone:
        assert baseline_of(variant, everyone).head.target == variant.head.target
        assert baseline_of(variant, everyone).head.weights == "bf16"


def test_expert_bytes_count_codes_and_both_scales(tmp_path):
    everyone = variants(measured_cells([load(make_run(tmp_path))]))
    by_weights = {variant.head.weights: variant.expert_bytes().median for variant in everyone}
    weights = 5 * 8 * 3 * 256 * 128
    assert by_weights == {
        "bf16": weights * 2,
        "nvfp4": weights * 4.5 / 8 + 5 * 8 * 2 * 4,
        "mxfp4": weights * 4.25 / 8,
    }
