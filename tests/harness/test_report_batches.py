"""Throughput against latency over batch and prompt: which workloads count, where the limit comes from, what is drawn."""

import json
from itertools import combinations
from pathlib import Path

import pytest

import batch_runs
from batch_runs import CPU, H100, RTX_5090, write_run
from harness.report import write_reports
from harness.report.batches import Batches, batches_of
from harness.report.cells import measured_cells
from harness.report.data import load
from harness.report.numbers import DASH, THIN
from harness.report.plots import Plot, batches, canvas, style
from harness.report.tables.batches import limits_table
from harness.report.variants import variants
from report_fixture import make_run
from test_report_plots import boxes

H100_RECORD = "results/baselines/mixtral-8x7b-h100"


def everyone_of(path):
    return variants(measured_cells([load(path)]))


def found_in(path) -> list[Batches]:
    return list(batches_of(everyone_of(path)))


def rewrite(run, change) -> None:
    """Apply `change` to every record of a run."""
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for record in records:
        change(record)
    (run / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def point_of(one: Batches, workload: str):
    return next(point for point in one.points if point.cell.workload == workload)


def test_points_are_ordered_by_prompt_and_batch_with_imposed_routing_last(tmp_path):
    (one,) = found_in(write_run(tmp_path / "run"))
    names = [point.cell.workload for point in one.points]
    assert names[:6] == ["p128b1", "p128b4", "p128b16", "p128b64", "p128b256", "p1024b1"]
    assert names[-3:] == ["p128b16-hot70", "p128b256-hot70", "p128b16-uniform"]
    assert point_of(one, "p128b16-hot70").series == (128, 128, "hot70")


def test_two_batches_are_no_curve_and_records_without_arrival_count_for_nothing(tmp_path):
    run = write_run(tmp_path / "run")
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["workload"]["name"] in ("p128b1", "p128b4")]
    (run / "records.jsonl").write_text("".join(kept))
    assert found_in(run) == [] and list(batches.draw(everyone_of(run))) == []
    assert found_in(make_run(tmp_path)) == []
    other = write_run(tmp_path / "other")
    rewrite(other, lambda record: record["workload"].update(arrival={"concurrency": 4}))  # as other tools tell it
    assert found_in(other) == []


def test_short_outputs_measure_a_first_token_and_are_left_out():
    for series in found_in(H100_RECORD):  # ours and vLLM's
        assert [point.cell.workload for point in series.points] == ["batch1", "batch8", "batch32", "batch128", "batch256"]
        assert all(point.is_measured for point in series.points)


def test_a_measured_h100_stays_below_its_limit():
    """Batch 1 reads two experts a layer, attention, router, head and the keys and values of 192 tokens."""
    one, _ = found_in(H100_RECORD)
    first = point_of(one, "batch1")
    ceilings = json.loads(Path("results/baselines/kernels/h100-mixtral/bench.json").read_text(encoding="utf-8"))["ceilings"]
    expert = (22548579328 + 2818572288 + 2048) / 256
    num_bytes = 32 * 2 * expert + 2684354560 + 2097152 + 2 * 32000 * 4096 + (128 + 64) * 131072
    assert first.limit.decode_ms == pytest.approx(num_bytes / round(ceilings["best_read_gb_s"], 1) / 1e6)
    assert 0.6 < first.share < 1 and first.limit.decode.bound_by == "read"


@pytest.mark.parametrize(
    ("options", "is_measured", "source"),
    [
        pytest.param({"profiled": True}, True, "3 000 GB/s, 700 TFLOP/s (bf16), measured in this run", id="profiled"),
        pytest.param({}, True, "on another H100 (results/baselines/kernels/h100-mixtral), not in this run", id="bench"),
        pytest.param({"target": RTX_5090}, False, "210 TFLOP/s (bf16), DATA SHEET, not measured (NVIDIA RTX", id="data-sheet"),
    ],
)
def test_ceilings_are_the_best_there_are_and_say_which(tmp_path, options, is_measured, source):
    (one,) = found_in(write_run(tmp_path / "run", **options))
    assert one.ceilings.is_measured == is_measured
    assert source in one.ceilings.text("bf16").replace(THIN, " ")
    (plot,) = batches.draw(everyone_of(tmp_path / "run"))
    assert ("the roofline" in plot.title) == is_measured and ("the data sheet" in plot.title) != is_measured
    entry = limits_table([one]).groups[0].rows[0][5]
    assert entry.unit == "tokens/s" and entry.tone == ("" if is_measured else "projected")


def test_without_ceilings_the_line_is_left_out_with_the_reason(tmp_path):
    run = write_run(tmp_path / "run", CPU)
    (one,) = found_in(run)
    assert all(point.limit is None for point in one.points)
    (plot,) = batches.draw(everyone_of(run))
    assert isinstance(plot, Plot) and "No limit line: no ceilings: not measured in this run" in plot.caption
    table = limits_table([one])
    assert {row[5].text for row in table.groups[0].rows} == {DASH} and "data/gpus.yaml" in table.footnotes[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda r: r.update(experts=None), "experts hit by a decode step were not recorded", id="no-routing"),
        pytest.param(
            lambda r: r["workload"].update(shared_prefix={"tokens": 64}), "a shared prefix need not be computed", id="prefix"
        ),
        pytest.param(lambda r: r.update(model="mine"), "the sizes of the model are not known here: models 'mine'", id="sizes"),
    ],
)
def test_a_limit_that_cannot_be_computed_says_why(tmp_path, change, reason):
    run = write_run(tmp_path / "run")
    rewrite(run, change)
    (one,) = found_in(run)
    assert reason in point_of(one, "p128b1").reason
    (plot,) = batches.draw(everyone_of(run))
    assert reason in plot.caption


def test_fewer_bytes_a_key_in_an_fp8_cache_raise_the_limit(tmp_path):
    run = write_run(tmp_path / "run")
    (before,) = found_in(run)
    rewrite(run, lambda r: r["engine"].update(kv_cache={"dtype": "fp8_e4m3"}))
    (after,) = found_in(run)
    ratio = point_of(before, "p1024b64").limit.decode_ms / point_of(after, "p1024b64").limit.decode_ms
    assert 1.1 < ratio < 2


def test_table_has_throughput_limit_and_share_and_failed_cells_their_reason(tmp_path):
    (one,) = found_in(write_run(tmp_path / "run"))
    table = limits_table([one])
    rows = {row[0].text: row for row in table.groups[0].rows}
    point = point_of(one, "p128b4")
    shown = rows["p128b4"]
    assert shown[6].text == f"{100 * point.throughput.median / point.limit.output_tokens_per_s:.0f}" and shown[6].unit == "%"
    assert shown[10].text == "5.03" and shown[11].text == "reading"
    failed = rows[batch_runs.FAILED]
    assert {entry.text for entry in failed[4:]} == {DASH}
    assert "the keys and values do not fit" in table.footnotes[failed[4].footnote - 1]


def test_report_has_the_section_and_the_table(tmp_path):
    paths = write_reports([write_run(tmp_path / "run", H100)], tmp_path / "report")
    text = paths.markdown.read_text()
    assert "## Throughput against latency" in text and "throughput-latency-mixtral-8x7b-h100-80gb-hbm3.png" in text
    assert "| **p128b256** | 256 | 128 | 128 |" in text
    assert 'id="batches"' in paths.html.read_text()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"precisions": ("fp8", "nvfp4"), "profiled": True}, id="two-panels"),
        pytest.param({"target": RTX_5090}, id="data-sheet"),
        pytest.param({"target": CPU}, id="no-limit"),
    ],
)
def test_no_texts_meet_or_leave_the_picture(tmp_path, monkeypatch, options):
    kept = []
    monkeypatch.setattr(canvas, "png", lambda figure: kept.append(figure) or b"")
    with style.context():
        list(batches.draw(everyone_of(write_run(tmp_path / "run", **options))))
        (figure,) = kept
        width, height = figure.canvas.get_width_height()
        found = list(boxes(figure))
    for text, box in found:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width + 1 and box.y1 <= height + 1, text
    for (one, first), (two, second) in combinations(found, 2):
        # Text boxes include the line's leading, above and below the digits: a quarter of a line of slack.
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        down = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 1 or down <= 6, f"{one!r} meets {two!r}"
