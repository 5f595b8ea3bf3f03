"""Figures of a load from outcomes made by hand: definitions as in process, failures kept out, everything counted."""

import pyarrow.parquet as pq
import pytest

from harness.client import ClientOptions, ClientOverhead, Endpoint, LoadResult
from harness.client.outcomes import OutcomeWriter
from harness.collect.latency import RequestTimes, latency_metrics, throughput_metrics
from harness.collect.load import load_figures
from harness.collect.load_samples import store_load
from harness.collect.load_verdict import judge_load
from harness.collect.outputs import read_outputs
from harness.collect.slo import Slo
from harness.metrics import METRICS
from harness.record.write import RunWriter
from load_cases import outcome

QUIET = (0.1,) * 200
OPTIONS = ClientOptions(concurrency=2)


def result(tmp_path, outcomes, *, closed=False, lag_ms=QUIET, not_sent=0, options=OPTIONS) -> LoadResult:
    path = tmp_path / "outcomes.jsonl"
    writer = OutcomeWriter(path)
    for item in outcomes:
        writer.add(item)
    writer.close()
    cost = ClientOverhead(2.0, 0.5, 0.01, 1000, 10**6, tuple(lag_ms), 30 * 10**6, 25 * 10**6)
    measured = sum(not item.is_warmup for item in outcomes) + not_sent
    return LoadResult(Endpoint("http://h", "m"), options, path, measured, not_sent, 0, 10**10, cost, closed)


GOOD = [outcome(0, due_ms=0, chunks_ms=[20, 30, 50]), outcome(1, due_ms=10, chunks_ms=[60, 70])]


def values(figures) -> dict:
    return {name: metric["value"] for name, metric in figures.metrics.items()}


def test_same_times_same_figures_as_in_process(tmp_path):
    times = [RequestTimes(o.request_id, o.scheduled_ns, o.sent_ns, o.chunk_times_ns, 4, o.asked_tokens) for o in GOOD]
    mine = load_figures(result(tmp_path, GOOD)).metrics
    theirs = latency_metrics(times) | throughput_metrics(times, [])
    for name, metric in theirs.items():
        if name not in ("prefill_throughput", "decode_throughput"):
            assert mine[name] == metric, name


def test_every_figure_is_defined_and_says_why_it_is_missing(tmp_path):
    for outcomes in (GOOD, [outcome(0, due_ms=0, chunks_ms=[], failure="http_5xx")]):
        for name, metric in load_figures(result(tmp_path, outcomes)).metrics.items():
            assert metric["unit"] == METRICS[name].unit and (metric["value"] is None) == (metric["reason"] is not None)


def test_tokens_are_counted_by_usage_and_gaps_by_what_was_seen(tmp_path):
    # Two chunks, four tokens by usage: TPOT over four, ITL between the chunks.
    merged = outcome(0, due_ms=0, chunks_ms=[10, 40], usage_output_tokens=4, asked=4)
    got = values(load_figures(result(tmp_path, [merged])))
    assert got["mean_tpot_ms"] == pytest.approx(30 / 3) and got["mean_itl_ms"] == pytest.approx(30)
    assert got["output_throughput"] == pytest.approx(4 / 0.040)


def test_tokens_of_one_chunk_came_together(tmp_path):
    chunky = outcome(0, due_ms=0, chunks_ms=[10, 40], chunk_tokens=(2, 2), usage_output_tokens=4, asked=4)
    got = values(load_figures(result(tmp_path, [chunky])))
    assert got["mean_itl_ms"] == pytest.approx((0 + 30 + 0) / 3) and got["mean_tpot_ms"] == pytest.approx(10)


def test_failed_requests_are_in_no_latency(tmp_path):
    failed = outcome(2, due_ms=0, chunks_ms=[900], failure="disconnected", detail="closed")
    with_it, without = (load_figures(result(tmp_path, rows)) for rows in ([*GOOD, failed], GOOD))
    for name in ("mean_ttft_ms", "mean_e2el_ms", "output_throughput", "request_throughput"):
        assert with_it.metrics[name] == without.metrics[name]
    assert values(with_it)["failed_pct"] == pytest.approx(100 / 3)
    assert with_it.block["failures"] == {"disconnected": {"count": 1, "first": "closed"}}


def test_goodput_counts_failed_and_unsent_against_the_slo(tmp_path):
    failed = outcome(2, due_ms=0, chunks_ms=[], failure="http_429")
    figures = load_figures(result(tmp_path, [*GOOD, failed], not_sent=1), Slo(ttft_ms=30.0))
    # TTFT 20 and 50 ms: one of four planned attains; goodput over the wall of 70 ms.
    assert values(figures)["slo_attainment_pct"] == pytest.approx(25.0)
    assert values(figures)["request_goodput"] == pytest.approx(1 / 0.070)


@pytest.mark.parametrize(
    ("limits", "met"),
    [({"ttft_ms": 20.0}, True), ({"ttft_ms": 19.9}, False), ({"tpot_ms": 14.9}, False), ({"e2el_ms": 50.0}, True)],
)
def test_slo_limits(limits, met):
    times = RequestTimes("a", 0, 0, tuple(round(t * 1e6) for t in (20, 30, 50)), 1, 3)  # TTFT 20, TPOT 15, E2E 50 ms
    assert Slo(**limits).is_met(times) is met


def test_waits_are_told_apart(tmp_path):
    waited = outcome(0, due_ms=0, chunks_ms=[90], ready_ns=40_000_000, dispatched_ns=43_000_000, sent_ns=45_000_000)
    got = values(load_figures(result(tmp_path, [waited])))
    assert (got["mean_queue_ms"], got["mean_send_lag_ms"], got["mean_connect_ms"]) == (40.0, 3.0, 2.0)
    assert got["mean_ttft_ms"] == 90.0


def test_offered_rate_of_an_open_loop(tmp_path):
    rows = [outcome(i, due_ms=100 * i, chunks_ms=[100 * i + 5]) for i in range(11)]
    assert values(load_figures(result(tmp_path, rows)))["offered_rate"] == pytest.approx(10.0)
    closed = load_figures(result(tmp_path, rows, closed=True)).metrics["offered_rate"]
    assert closed["value"] is None and "closed loop" in closed["reason"]


def test_steady_window_throughput(tmp_path):
    # One request every 10 ms, each of one token 5 ms later: 100 requests and tokens a second inside the window.
    rows = [outcome(i, due_ms=10 * i, chunks_ms=[10 * i + 5]) for i in range(101)]
    figures = load_figures(result(tmp_path, rows))
    assert figures.block["window"]["start_s"] == 0.0 and figures.block["window"]["end_s"] == 1.0
    assert values(figures)["steady_request_throughput"] == pytest.approx(100.0)
    assert values(figures)["steady_median_ttft_ms"] == pytest.approx(5.0)


def test_warm_up_is_counted_apart(tmp_path):
    warm = outcome(9, due_ms=0, chunks_ms=[500], is_warmup=True)
    figures = load_figures(result(tmp_path, [warm, *GOOD]))
    assert figures.block["warmup"]["num_requests"] == 1 and figures.block["num_answered"] == 2
    assert values(figures)["mean_ttft_ms"] == pytest.approx((20 + 50) / 2)


def test_overhead_of_the_client(tmp_path):
    got = values(load_figures(result(tmp_path, GOOD)))
    assert (got["client_cpu_pct"], got["client_parse_us"], got["client_peak_rss_bytes"]) == (25.0, 10.0, 30e6)


def codes(tmp_path, outcomes, **changes) -> dict[str, bool]:
    load = result(tmp_path, outcomes, **changes)
    return {reason.code: reason.invalidates for reason in judge_load(load, load_figures(load))}


LATE = [outcome(i, due_ms=10 * i, chunks_ms=[10 * i + 90], dispatched_ns=(10 * i + 60) * 10**6) for i in range(60)]
STEADY = [outcome(i, due_ms=10 * i, chunks_ms=[10 * i + 5]) for i in range(60)]


def test_a_clean_load_is_valid(tmp_path):
    assert codes(tmp_path, STEADY) == {}


@pytest.mark.parametrize(("lag_ms", "expected"), [(20.0, {"client_lag": False}), (60.0, {"client_lag": True})])
def test_a_late_client_is_named_and_a_very_late_one_is_invalid(tmp_path, lag_ms, expected):
    assert codes(tmp_path, STEADY, lag_ms=(lag_ms,) * 200) == expected


def test_late_sending_warns(tmp_path):
    assert codes(tmp_path, LATE) == {"send_lag": False}


def test_growing_latency_warns(tmp_path):
    rows = [outcome(i, due_ms=10 * i, chunks_ms=[10 * i + 50 + 5 * i]) for i in range(90)]
    assert codes(tmp_path, rows) == {"unsteady": False, "no_steady_window": False}


def test_another_model_is_named(tmp_path):
    rows = [*STEADY[:-1], outcome(59, due_ms=590, chunks_ms=[595], notes=("other_model",))]
    assert codes(tmp_path, rows) == {"other_model": False}


def test_samples_hold_every_request(tmp_path):
    failed = outcome(2, due_ms=0, chunks_ms=[30], failure="stalled", detail="nothing for 1 s", text="ab")
    load = result(tmp_path, [*GOOD, failed])
    writer = RunWriter(tmp_path)
    paths = store_load(writer, "stem", load)
    rows = pq.read_table(tmp_path / paths["requests"]).to_pylist()
    assert [row["request_id"] for row in rows] == ["r-0", "r-1", "r-2"] and not load.outcomes_path.exists()
    assert rows[0]["ttft_ms"] == 20.0 and rows[0]["token_times_ns"] == [20_000_000, 30_000_000, 50_000_000]
    assert rows[2]["ttft_ms"] is None and rows[2]["failure"] == "stalled" and rows[2]["text"] == "ab"


def test_token_ids_are_kept_beside_when_asked_for(tmp_path):
    rows = [outcome(0, due_ms=0, chunks_ms=[5], token_ids=(7, 8), text="x")]
    paths = store_load(RunWriter(tmp_path), "stem", result(tmp_path, rows, options=ClientOptions(keep_text=True)))
    assert read_outputs(tmp_path / paths["outputs"]) == {"r-0": [7, 8]}
