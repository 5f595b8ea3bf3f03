"""The client at scale: what it costs a request, 2000 streams, 100 000 requests, and its true error.

Cost is in the client's CPU time, which does not depend on what else this machine does; `harness selfcheck` and
tests/bench_client.py give requests a second.
"""

import pytest

from harness.client.selfcheck import Sizes, accuracy
from harness.collect.load import load_figures
from harness.collect.load_samples import store_load
from harness.collect.memory import rss_bytes
from harness.mock import MockOptions
from harness.record.write import RunWriter
from load_cases import load_mock, needs_a_processor, planned

MB = 1e6
pytestmark = pytest.mark.slow


def test_a_thousand_requests_a_second_take_less_than_half_a_processor(tmp_path):
    result, outcomes = load_mock(MockOptions(), tmp_path, planned(4000, tokens=16), concurrency=256)
    assert all(o.failure is None and len(o.chunk_times_ns) == 16 for o in outcomes)
    assert len(outcomes) / result.overhead.cpu_s >= 2000


def test_true_error_at_32_streams():
    needs_a_processor()
    rows = {row.name: row for row in accuracy(Sizes(rounds=10))}
    assert rows["TTFT error, mean"].value <= 5.0 and rows["TTFT error, p99"].value <= 15.0


def test_2000_streams_are_held_with_flat_memory(tmp_path):
    mock = MockOptions(ttft_ms=500, itl_ms=250)  # 8000 chunks a second of all streams together
    sizes = {}
    for rounds in (1, 3):
        result, outcomes = load_mock(mock, tmp_path / str(rounds), planned(2000 * rounds, tokens=8), concurrency=2000)
        assert all(o.failure is None for o in outcomes)
        sizes[rounds] = result.overhead.peak_rss_bytes
    # The first round opens every connection; three times the requests may add no more than the allocator's slack.
    assert sizes[3] - sizes[1] <= 4 * MB and sizes[3] <= 100 * MB


@pytest.mark.timeout(1200)  # half a minute alone, many on a busy machine
def test_100_000_requests_in_bounded_memory(tmp_path):
    few, _ = load_mock(MockOptions(), tmp_path / "few", planned(10_000, tokens=4), concurrency=64)
    before = rss_bytes()
    lazily = (request for part in range(10) for request in _renumbered(planned(10_000, tokens=4), part))
    many = _load_lazily(tmp_path / "many", lazily)
    figures = load_figures(many)
    paths = store_load(RunWriter(tmp_path), "many", many)
    assert figures.block["num_answered"] == 100_000 and figures.metrics["p99.9_ttft_ms"]["n"] == 100_000
    assert (tmp_path / paths["requests"]).stat().st_size > 10**6
    # Ten times the requests: the client keeps those in flight alone. The parent keeps 8 bytes a figure and a token
    # (about 15 of them a request here, 12 MB), a batch of rows for parquet, and what pyarrow holds once it is imported.
    assert many.overhead.peak_rss_bytes - few.overhead.peak_rss_bytes <= 4 * MB
    assert rss_bytes() - before <= 150 * MB


def _renumbered(requests, part: int):
    from dataclasses import replace

    return (replace(request, request_id=f"r-{part}x{index}") for index, request in enumerate(requests))


def _load_lazily(folder, requests):
    from harness.client import ClientOptions, Endpoint, run_load
    from harness.mock import serve_mock

    with serve_mock(MockOptions()) as server:
        return run_load(Endpoint(server.url, "mock"), requests, ClientOptions(concurrency=64), folder=folder)
