"""The section on requests under load: rows only where a load was measured, each rate of a sweep, the plot of it."""

import copy

from harness.collect.values import measured, missing
from harness.report.cells import MeasuredCell
from harness.report.data import LoadedRun
from harness.report.plots import Plot, sweep
from harness.report.tables import serving
from harness.report.variants import variants

WINDOW = {"start_s": 1.0, "end_s": 4.5, "num_requests": 70, "growth": None, "reason": None}
LOAD = {
    "loop": "open", "concurrency": 16, "num_planned": 100, "num_answered": 98, "num_failed": 2, "num_not_sent": 0,
    "failures": {"http_429": {"count": 2, "first": "HTTP 429"}}, "window": WINDOW,
}  # fmt: skip


def metrics(rate: float) -> dict:
    figures = {
        "offered_rate": rate, "request_throughput": min(rate, 9.0), "steady_request_throughput": min(rate, 9.0),
        "request_goodput": rate if rate < 8 else 1.0, "slo_attainment_pct": 99.0, "failed_pct": 2.0, "p90_queue_ms": 12.0,
        "median_ttft_ms": 20.0 * rate, "median_tpot_ms": 5.0, "max_slo_rate": 4.0, "client_cpu_pct": 11.0,
    }  # fmt: skip
    return {name: measured(name, value, 100) for name, value in figures.items()} | {
        "p99_ttft_ms": missing("p99_ttft_ms", "p99 needs n >= 100 (n = 98)", 98)
    }


def cell(**changes) -> MeasuredCell:
    rates = [
        {"rate_per_s": r, "metrics": metrics(r), "attains_slo": r < 8, "keeps_up": r < 10, "verdict": {"state": "VALID"}}
        for r in (2.0, 4.0, 16.0)
    ]
    record = {
        "cell_id": "m/openai/bf16-a16/w/cpu", "model": "m", "backend": "openai", "status": "ok", "repeat": 0, "error": None,
        "precision": {"id": "bf16-a16", "weights": "bf16", "method": None, "activations": "bf16"},
        "workload": {"name": "w", "kind": "requests", "slo": {"ttft_ms": 200.0, "attainment_pct": 95.0}},
        "target": {"kind": "cpu", "name": "CPU"}, "verdict": {"state": "VALID", "reasons": []}, "implementation": [],
        "metrics": metrics(4.0), "load": copy.deepcopy(LOAD), "sweep": rates,
    }  # fmt: skip
    run = LoadedRun.__new__(LoadedRun)
    return MeasuredCell(run, record["cell_id"], "CPU", (record | changes,), ())


def words(table) -> str:
    rows = [row for group in table.groups for row in group.rows]
    return " | ".join(f"{entry.text} {entry.unit} {entry.detail}" for row in rows for entry in row)


def test_load_row_shows_what_was_asked_what_came_and_what_failed():
    shown = words(serving.load_table([cell()]))
    assert "open loop, 16 in flight" in shown and "2 http_429" in shown and "1.0–4.5 s, 70 requests" in shown


def test_records_without_a_load_have_no_row():
    assert not serving.load_table([cell(load=None)]).groups and not serving.sweep_table([cell(sweep=None)]).groups


def test_sweep_has_a_row_a_rate_and_says_the_slo():
    table = serving.sweep_table([cell()])
    assert table.num_rows == 3 and "TTFT ≤ 200 ms for 95 % of the requests" in table.groups[0].label
    assert "met" in words(table) and "missed" in words(table)
    assert table.footnotes[0] == "p99 needs n >= 100 (n = 98)"


def test_client_row_only_where_the_client_measured():
    assert "11" in words(serving.client_table([cell()]))
    without = metrics(4.0)
    del without["client_cpu_pct"]
    assert not serving.client_table([cell(metrics=without)]).groups


def test_plot_of_a_sweep_names_the_rate():
    plots = list(sweep.draw(variants((cell(),))))
    assert len(plots) == 1 and isinstance(plots[0], Plot) and plots[0].png.startswith(b"\x89PNG")
    assert plots[0].title == "Highest rate within the SLO: BF16 × BF16 4/s" and "16/s offered, 9/s answered" in plots[0].alt


def test_no_sweep_no_plot():
    assert list(sweep.draw(variants((cell(sweep=None),)))) == []
