"""Runs in other tools' formats and back: keys, units, what is left out, files that are not what they claim."""

import json

import pytest

from exchange_runs import served_run
from gate_runs import records, timed, write_run
from harness.exchange import aiperf, aiperf_read, benchmark_report, vllm_bench, vllm_bench_read
from harness.exchange.errors import ExchangeError
from harness.exchange.imported import Described
from harness.exchange.imported import write_run as write_imported
from harness.exchange.served import served_in
from harness.report.data import load


@pytest.fixture
def run(tmp_path):
    return served_run(tmp_path)


def test_vllm_keys_and_units(run):
    (served,) = served_in(run)
    found = vllm_bench.export(served)
    assert found["ttfts"] == pytest.approx([0.02] * 4) and found["itls"][0] == pytest.approx([0.005] * 31)
    assert found["mean_ttft_ms"] == pytest.approx(20) and found["median_tpot_ms"] == pytest.approx(5)
    assert found["completed"] == 4 and found["total_output_tokens"] == 128 and found["total_input_tokens"] == 128
    assert found["request_throughput"] == pytest.approx(4 / found["duration"])
    assert found["date"] == "20260131-120000" and found["max_concurrency"] == 1 and found["request_rate"] == "inf"
    assert "p99_ttft_ms" not in found and "p99_itl_ms" in found  # 4 requests, 124 gaps


def test_aiperf_blocks(run):
    (served,) = served_in(run)
    found = aiperf.export(served)
    ttft = found["time_to_first_token"]
    assert ttft["unit"] == "ms" and ttft["avg"] == ttft["min"] == ttft["p75"] == pytest.approx(20) and ttft["count"] == 4
    assert "p90" not in ttft and "p99" in found["inter_chunk_latency"]  # 4 requests, 124 gaps
    assert found["inter_token_latency"]["avg"] == pytest.approx(5) and found["request_count"] == {"unit": "requests", "avg": 4}
    assert found["output_token_throughput"]["unit"] == "tokens/sec" and found["output_sequence_length"]["p50"] == 32
    (phase,) = found["input_config"]["phases"]
    assert phase == {"name": "profiling", "kind": "profiling", "type": "concurrency", "requests": 4, "concurrency": 1}


def test_benchmark_report_has_the_required_parts_and_units(run):
    (served,) = served_in(run)
    found = benchmark_report.export(served)
    assert found["version"] == "0.2" and set(found) == {"version", "run", "scenario", "results"}
    aggregate = found["results"]["request_performance"]["aggregate"]
    assert aggregate["latency"]["time_to_first_token"]["units"] == "s"
    assert aggregate["latency"]["time_to_first_token"]["mean"] == pytest.approx(0.02)
    assert aggregate["latency"]["inter_token_latency"]["units"] == "s/token"
    assert aggregate["throughput"]["request_rate"]["units"] == "queries/s"
    assert aggregate["requests"]["total"] == 4 and aggregate["requests"]["failures"] == 0
    assert found["scenario"]["load"]["standardized"]["concurrency"] == 1
    engine = found["scenario"]["stack"][0]["standardized"]
    assert engine["kind"] == "inference_engine" and engine["accelerator"]["model"] == "NVIDIA H100"


def test_without_samples_the_metrics_are_exported_alone(run):
    (run.path / "samples" / "r.parquet").unlink()
    (served,) = served_in(run)
    found = vllm_bench.export(served)
    assert "ttfts" not in found and found["mean_ttft_ms"] == pytest.approx(20) and found["total_output_tokens"] == 128
    assert aiperf.export(served)["time_to_first_token"]["avg"] == pytest.approx(20)
    report = benchmark_report.export(served)["results"]["request_performance"]["aggregate"]
    assert report["latency"]["time_to_first_token"]["p50"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("writer", "reader", "name"),
    [(vllm_bench, vllm_bench_read, "vllm-bench"), (aiperf, aiperf_read, "aiperf")],
    ids=["vllm", "aiperf"],
)
def test_round_trip_keeps_the_figures(run, tmp_path, writer, reader, name):
    (served,) = served_in(run)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(writer.export(served)))
    results = reader.read(path) + reader.read(path)
    folder = write_imported(
        results, Described(weights="nvfp4", activations="bf16", target="NVIDIA H100"), tmp_path / "in", [path]
    )
    back = load(folder)
    assert [row["repeat"] for row in back.records] == [0, 1]
    for metric in ("output_throughput", "request_throughput", "mean_ttft_ms", "median_tpot_ms", "median_itl_ms", "p90_itl_ms"):
        assert back.records[0]["metrics"][metric]["value"] == pytest.approx(served.metric(metric)), metric
    row = back.records[0]
    assert row["verdict"]["state"] == "WARN" and name in row["verdict"]["reasons"][0]["message"]
    assert row["workload"]["prompt_tokens"] == 32 and row["workload"]["arrival"] == {"kind": "closed", "concurrency": 1}
    assert row["precision"]["label"] == "NVFP4 x BF16" and row["weights"] is None
    assert row["metrics"]["decode_throughput"]["value"] is None and row["metrics"]["decode_throughput"]["reason"]


def test_imported_runs_are_read_by_report_frames_and_compare(run, tmp_path):
    import harness
    from harness.report import write_reports

    (served,) = served_in(run)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(vllm_bench.export(served)))
    folder = write_imported(vllm_bench_read.read(path), Described(), tmp_path / "in", [path])
    assert harness.load_runs([folder])["output_throughput"].notna().all()
    assert "vllm-bench" in write_reports([folder], folder).markdown.read_text()


def test_append_mode_of_vllm_is_read_line_by_line(run, tmp_path):
    (served,) = served_in(run)
    line = json.dumps(vllm_bench.export(served))
    path = tmp_path / "results.json"
    path.write_text(line + "\n" + line)
    assert len(vllm_bench_read.read(path)) == 2


@pytest.mark.parametrize(
    ("content", "word"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("{", "not valid JSON", id="torn"),
        pytest.param("[1]", "must hold a JSON object", id="a-list"),
        pytest.param("{}", "must be a number|missing", id="no-keys"),
        pytest.param('{"duration": NaN, "completed": 1}', "duration", id="nan"),
        pytest.param(
            '{"duration": 1, "completed": 0, "request_count": {"avg": 0}}', "must be a number|no request", id="nothing-done"
        ),
    ],
)
@pytest.mark.parametrize("module", [vllm_bench_read, aiperf_read])
def test_a_file_that_is_not_a_result_is_named(tmp_path, content, word, module):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ExchangeError, match=f"x.json(.|\n)*({word}|missing)") as refused:
        module.read(path)
    assert refused.value.exit_code == 2


def test_nothing_to_export_is_said(tmp_path):
    run = load(write_run(tmp_path / "run", records(timed(), state="INVALID")))
    with pytest.raises(ExchangeError, match="nothing to export"):
        list(served_in(run))
