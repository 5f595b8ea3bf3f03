"""Real files of vLLM 0.32.0 and AIPerf 0.13.0 (data/exchange/README.md): read as they print, and our exports key by key."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from exchange_runs import served_run
from harness.exchange import aiperf, aiperf_read, vllm_bench, vllm_bench_read
from harness.exchange.definitions import metrics_of, not_comparable
from harness.exchange.errors import ExchangeError
from harness.exchange.imported import Described, write_run
from harness.exchange.served import served_in
from harness.report.data import load

DATA = Path(__file__).parent / "data" / "exchange"
VLLM, VLLM_FAILED = DATA / "vllm-0.32.0-closed.json", DATA / "vllm-0.32.0-open-failed.json"
AIPERF = DATA / "aiperf-0.13.0-closed" / "profile_export_aiperf.json"
AIPERF_FAILED = DATA / "aiperf-0.13.0-open-failed" / "profile_export_aiperf.json"
CASES = [
    pytest.param(vllm_bench_read, VLLM, id="vllm-closed"),
    pytest.param(vllm_bench_read, VLLM_FAILED, id="vllm-open-failed"),
    pytest.param(aiperf_read, AIPERF, id="aiperf-closed"),
    pytest.param(aiperf_read, AIPERF_FAILED, id="aiperf-open-failed"),
]

# What each tool printed on its console, to its own two digits.
PRINTED = {
    VLLM: {
        "request_throughput": 9.19, "output_throughput": 146.97, "total_token_throughput": 443.20,
        "mean_ttft_ms": 97.63, "median_ttft_ms": 87.86, "p90_ttft_ms": 170.97, "p95_ttft_ms": 201.21,
        "mean_tpot_ms": 22.45, "median_tpot_ms": 20.90, "p90_tpot_ms": 29.92, "mean_itl_ms": 22.45, "median_itl_ms": 15.69,
        "p99_itl_ms": 100.43, "mean_e2el_ms": 434.38, "median_e2el_ms": 418.01, "p95_e2el_ms": 687.85,
    },
    VLLM_FAILED: {
        "request_throughput": 24.47, "output_throughput": 391.55, "total_token_throughput": 769.82, "mean_ttft_ms": 22.11,
        "median_ttft_ms": 21.75, "mean_tpot_ms": 4.99, "median_tpot_ms": 4.99, "mean_itl_ms": 4.68, "p99_itl_ms": 7.38,
    },
    AIPERF: {
        "request_throughput": 9.60, "output_throughput": 153.64, "mean_ttft_ms": 84.47, "median_ttft_ms": 79.83,
        "p90_ttft_ms": 128.55, "mean_tpot_ms": 21.59, "median_tpot_ms": 19.44, "p90_tpot_ms": 32.70, "mean_e2el_ms": 408.31,
        "median_e2el_ms": 353.16, "p90_e2el_ms": 577.24,
    },
    AIPERF_FAILED: {
        "request_throughput": 26.24, "output_throughput": 419.91, "mean_ttft_ms": 20.97, "median_ttft_ms": 20.97,
        "p90_ttft_ms": 21.74, "mean_tpot_ms": 5.02, "median_tpot_ms": 5.03, "mean_e2el_ms": 96.34, "median_e2el_ms": 96.25,
    },
}  # fmt: skip


@pytest.mark.parametrize(("reader", "path"), CASES)
def test_figures_are_those_that_the_tool_printed(reader, path):
    (result,) = reader.read(path)
    found = metrics_of(result)
    for name, printed in PRINTED[path].items():
        assert found[name]["value"] == pytest.approx(printed, abs=0.0051), name  # printed to two digits


@pytest.mark.parametrize(("reader", "path"), CASES)
def test_samples_give_the_same_statistics_as_the_tool(reader, path):
    """Our own statistics of the imported requests: units, counts, std over n - 1, and no failed request among them."""
    from harness.collect.latency import latency_metrics

    (result,) = reader.read(path)
    assert len(result.requests) == result.num_completed
    ours, theirs = latency_metrics(result.requests), metrics_of(result)
    shared = [name for name, entry in theirs.items() if entry["value"] is not None and name in ours]
    assert {"mean_ttft_ms", "std_ttft_ms", "median_tpot_ms", "std_itl_ms"} <= set(shared)
    for name in shared:
        assert ours[name]["value"] == pytest.approx(theirs[name]["value"], rel=1e-4), name  # times are whole nanoseconds
        assert ours[name]["n"] == theirs[name]["n"], name


@pytest.mark.parametrize(
    ("reader", "path", "model", "arrival", "failed"),
    [
        pytest.param(vllm_bench_read, VLLM, "pocket-mixtral", {"kind": "closed", "concurrency": 4}, 0, id="vllm-closed"),
        pytest.param(aiperf_read, AIPERF, "pocket-mixtral", {"kind": "closed", "concurrency": 4}, 0, id="aiperf-closed"),
        pytest.param(
            vllm_bench_read,
            VLLM_FAILED,
            "mock",
            {"kind": "gamma", "burstiness": 0.5, "rate_per_s": 30.0, "max_concurrency": 8},
            5,
            id="vllm-rate-with-a-cap-is-an-open-loop",
        ),
        pytest.param(
            aiperf_read,
            AIPERF_FAILED,
            "mock",
            {"kind": "gamma", "burstiness": 0.5, "rate_per_s": 30.0, "max_concurrency": 8},
            5,
            id="aiperf-rate-with-a-cap-is-an-open-loop",
        ),
    ],
)
def test_load_and_failures(reader, path, model, arrival, failed):
    (result,) = reader.read(path)
    assert (result.model, result.arrival, result.num_failed) == (model, arrival, failed)


def test_what_vllm_does_not_measure_as_we_do_is_named():
    (closed,), (failed,) = vllm_bench_read.read(VLLM), vllm_bench_read.read(VLLM_FAILED)
    assert not_comparable(closed) == {}
    found = not_comparable(failed)
    assert found["median_itl_ms"] == "vllm-bench pooled 560 gaps between chunks where 525 are between tokens"
    assert "sent" in found["median_ttft_ms"] and "divides by 1.43 s" in found["output_throughput"]
    assert "median_tpot_ms" not in found


def test_what_aiperf_does_not_measure_as_we_do_is_named(tmp_path):
    assert not_comparable(aiperf_read.read(AIPERF)[0]) == {}
    assert set(not_comparable(aiperf_read.read(AIPERF_FAILED)[0])) >= {"median_ttft_ms", "mean_e2el_ms"}
    data = json.loads(AIPERF.read_text())
    del data["input_config"]["endpoint"]["use_server_token_count"]
    data["total_usage_completion_tokens"]["avg"] += 3
    (tmp_path / "x.json").write_text(json.dumps(data))
    assert "own tokenizer" in not_comparable(aiperf_read.read(tmp_path / "x.json")[0])["output_throughput"]


def test_vllm_without_the_arrays_keeps_what_is_known(tmp_path):
    """--save-result alone, and the default --percentile-metrics: no samples, no end-to-end latency."""
    data = json.loads(VLLM.read_text())
    arrays = ("input_lens", "output_lens", "start_times", "ttfts", "itls", "generated_texts", "errors")
    kept = {key: value for key, value in data.items() if key not in arrays and not key.endswith("_e2el_ms")}
    path = tmp_path / "short.json"
    path.write_text(json.dumps(kept))
    (result,) = vllm_bench_read.read(path)
    found = metrics_of(result)
    assert result.requests == () and found["median_itl_ms"]["value"] == pytest.approx(15.69, abs=0.0051)
    assert found["std_itl_ms"]["value"] is None and "divides by n" in found["std_itl_ms"]["reason"]
    assert found["std_ttft_ms"]["value"] == pytest.approx(data["std_ttft_ms"] * (40 / 39) ** 0.5)
    assert "--percentile-metrics" in found["median_e2el_ms"]["reason"]
    assert found["p99_ttft_ms"]["reason"] == "p99 needs n >= 100 (n = 40); vllm-bench gave 261.961 ms"
    assert "does not say" in not_comparable(result)["median_itl_ms"]


def test_the_tools_version_is_recorded(tmp_path):
    write_run(aiperf_read.read(AIPERF), Described(), tmp_path / "a", [AIPERF])
    write_run(vllm_bench_read.read(VLLM), Described(tool_version="0.32.0"), tmp_path / "b", [VLLM])
    write_run(vllm_bench_read.read(VLLM), Described(), tmp_path / "c", [VLLM])
    found = [load(tmp_path / name).records[0] for name in "abc"]
    assert [row["imported"]["tool_version"] for row in found] == ["0.13.0", "0.32.0", None]
    assert "its version is not in the file" in found[2]["verdict"]["reasons"][0]["message"]
    assert found[0]["started_utc"] == "2026-11-25T23:20:01Z" and found[1]["started_utc"] == "2026-11-25T23:19:47Z"


def test_an_unknown_unit_of_aiperf_is_an_error(tmp_path):
    data = json.loads(AIPERF.read_text())
    data["time_to_first_token"]["unit"] = "fortnights"
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(ExchangeError, match=r"x\.json: ttft: unit must be one of .*fortnights"):
        aiperf_read.read(tmp_path / "x.json")


# Keys of a real file that an export of ours leaves out: text is not kept, rtfx is of audio.
VLLM_LEFT_OUT = {"generated_texts", "rtfx", "p99_ttft_ms", "p99_tpot_ms", "p99_e2el_ms", "p95_ttft_ms", "p95_tpot_ms"}
VLLM_LEFT_OUT |= {"p95_e2el_ms", "p90_ttft_ms", "p90_tpot_ms", "p90_e2el_ms"}  # four requests
AIPERF_LEFT_OUT = ("http_req_", "usage_", "total_usage_", "active_", "effective_", "osl_mismatch_", "prefill_throughput_")
AIPERF_LEFT_OUT += ("tokens_in_flight", "telemetry_data", "aiperf_version", "time_to_first_output_token", "e2e_output_token")


def test_our_vllm_export_has_the_keys_and_types_of_a_real_file(tmp_path):
    (served,) = served_in(served_run(tmp_path))
    ours, real = vllm_bench.export(served), json.loads(VLLM.read_text())
    assert set(real) - set(ours) == VLLM_LEFT_OUT
    assert {key for key in set(ours) - set(real) if not key.startswith("harness_")} == set()
    for key in set(ours) & set(real):
        if ours[key] is not None and real[key] is not None:
            assert type(ours[key]) is type(real[key]), key
            assert not isinstance(real[key], list) or type(ours[key][0]) is type(real[key][0]), key


def test_our_vllm_export_is_what_vllm_computes_from_its_arrays():
    """vLLM's own peaks, over the arrays of its file, against ours over the same requests."""
    from types import SimpleNamespace

    from harness.exchange.served import RequestRow, Served

    data = json.loads(VLLM.read_text())
    arrays = [data[key] for key in ("start_times", "ttfts", "latencies", "itls", "input_lens", "output_lens")]
    first = min(data["start_times"])
    rows = tuple(
        RequestRow(start - first, 0.0, ttft, latency, tuple(gaps), prompt, output)
        for start, ttft, latency, gaps, prompt, output in zip(*arrays, strict=True)
    )
    served = Served(SimpleNamespace(), {}, 40, 0, data["duration"], 1290, 640, rows)
    assert vllm_bench.peaks(served) == {key: data[key] for key in ("max_output_tokens_per_s", "max_concurrent_requests")}
    for name, value in vllm_bench.from_samples(served).items():
        assert value == pytest.approx(data[name], rel=1e-9), name


def test_our_aiperf_export_has_the_keys_units_and_fields_of_a_real_file(tmp_path):
    (served,) = served_in(served_run(tmp_path))
    ours, real = aiperf.export(served), json.loads(AIPERF.read_text())
    assert [key for key in real if key not in ours and not key.startswith(AIPERF_LEFT_OUT)] == []
    assert set(ours) - set(real) == set()
    assert set(ours["input_config"]) <= set(real["input_config"])
    assert set(ours["input_config"]["phases"][0]) == set(real["input_config"]["phases"][0])
    for key in ours:
        assert type(ours[key]) is type(real[key]), key
        if isinstance(ours[key], dict) and "unit" in real[key]:
            assert ours[key]["unit"] == real[key]["unit"], key
            assert set(ours[key]) <= set(real[key]), key


def test_warm_up_and_failed_requests_are_not_exported(tmp_path):
    (served,) = served_in(served_run(tmp_path, extra=[{"is_warmup": True}, {"failure": "disconnect"}]))
    assert len(served.requests) == served.num_completed == 4
    assert vllm_bench.export(served)["start_times"][0] == 0


def test_the_wait_before_sending_is_kept_apart(tmp_path):
    """Ours counts from when a request was due; vLLM and AIPerf from sending, with the wait in a field of its own."""
    (served,) = served_in(served_run(tmp_path, queue_ms=30))
    ours = vllm_bench.export(served)
    assert ours["ttfts"] == pytest.approx([0.02] * 4) and ours["queue_times"] == pytest.approx([0.03] * 4)
    assert ours["mean_ttft_ms"] == pytest.approx(20) and served.metric("mean_ttft_ms") == pytest.approx(50)
    found = aiperf.export(served)
    assert found["time_to_first_token"]["avg"] == pytest.approx(20)
    assert found["effective_latency"]["avg"] - found["request_latency"]["avg"] == pytest.approx(30)


@pytest.mark.parametrize(
    "arrival",
    [
        pytest.param({"kind": "closed", "concurrency": 3}, id="closed"),
        pytest.param({"kind": "all_at_once"}, id="all-at-once"),
        pytest.param({"kind": "poisson", "rate_per_s": 4.0}, id="poisson"),
        pytest.param({"kind": "gamma", "rate_per_s": 4.0, "burstiness": 0.5, "max_concurrency": 8}, id="gamma-with-a-cap"),
        pytest.param({"kind": "constant", "rate_per_s": 4.0}, id="constant"),
        pytest.param({"kind": "ramp", "from_rate_per_s": 1.0, "to_rate_per_s": 2.0}, id="ramp"),
    ],
)
def test_arrivals_come_back_as_they_went(tmp_path, arrival):
    (served,) = served_in(served_run(tmp_path))
    served = replace(served, record=served.record | {"workload": served.workload | {"arrival": arrival}})
    path = tmp_path / "x.json"
    path.write_text(json.dumps(vllm_bench.export(served)))
    assert vllm_bench_read.read(path)[0].arrival == arrival
    exported = aiperf.export(served)
    if arrival["kind"] == "ramp":
        assert "input_config" not in exported  # AIPerf's model refuses a configuration without a phase it knows
        return
    path.write_text(json.dumps(exported))
    all_four = {"kind": "closed", "concurrency": 4}  # AIPerf says "all at once" as four of four requests in flight
    assert aiperf_read.read(path)[0].arrival == (all_four if arrival["kind"] == "all_at_once" else arrival)


def test_drawn_lengths_are_exported_as_their_mean(tmp_path):
    from harness.exchange import benchmark_report

    (served,) = served_in(served_run(tmp_path))
    drawn = served.workload | {"prompt_tokens": {"kind": "uniform", "low": 8, "high": 64}}
    served = replace(served, record=served.record | {"workload": drawn})
    load = benchmark_report.export(served)["scenario"]["load"]["standardized"]
    assert load["input_seq_len"] == {"distribution": "other", "value": 32.0}
    assert aiperf.export(served)["input_config"]["datasets"][0]["prompts"] == {"isl": {"mean": 32.0}, "osl": {"mean": 32.0}}


def test_aiperf_with_a_prefix_of_its_own_finds_the_requests(tmp_path):
    for source, name in (("profile_export_aiperf.json", "foo.json"), ("profile_export.jsonl", "foo.jsonl")):
        (tmp_path / name).write_text((AIPERF.parent / source).read_text())
    assert len(aiperf_read.read(tmp_path / "foo.json")[0].requests) == 40


def test_aiperf_without_streaming_says_why_there_is_no_first_token(tmp_path):
    data = json.loads(AIPERF.read_text())
    kept = {key: value for key, value in data.items() if key not in list(aiperf.FAMILIES)[:3]}
    (tmp_path / "x.json").write_text(json.dumps(kept))
    (result,) = aiperf_read.read(tmp_path / "x.json")
    found = metrics_of(result)
    assert "--streaming" in found["median_ttft_ms"]["reason"] and found["median_e2el_ms"]["value"] > 0
    assert not_comparable(result) == {}
