"""A run of four requests with samples beside it, for tests of exchange: 20 ms to the first token, then 5 ms a token.

In: how long each waits before it is sent, columns of requests that must not count. Out: a loaded run.
"""

from pathlib import Path

from gate_runs import record, write_run
from harness.collect import tables
from harness.collect.latency import RequestTimes, StepTimes, latency_metrics, throughput_metrics
from harness.report.data import LoadedRun, load

MS = 1_000_000


def served_run(folder: Path, *, queue_ms: int = 0, extra: list[dict] | None = None) -> LoadedRun:
    """One repeat, one request at a time, 32 tokens in and out. `extra`: columns of a request more, before the others."""
    times = []
    for index in range(4):
        due = (index + 1) * 200 * MS
        start = due + queue_ms * MS
        tokens = tuple(start + 20 * MS + step * 5 * MS for step in range(32))
        times.append(RequestTimes(f"request-{index}", due, start, tokens, 32, 32))
    metrics = latency_metrics(times) | throughput_metrics(times, [StepTimes(0, "decode", 0, 5 * MS, 1, 1)])
    row = record({}, extra_metrics=metrics)
    plain = {"is_warmup": False, "failure": None}
    early = RequestTimes("early", 0, 0, (20 * MS, 25 * MS), 32, 32)
    rows = [tables.request_row(early) | plain | columns for columns in extra or ()]
    rows += [tables.request_row(request) | plain for request in times]
    path = write_run(folder / "run", [row])
    (path / "samples").mkdir()
    tables.write_rows(path / "samples" / "r.parquet", rows)
    return load(write_run(path, [row | {"samples": {"requests": "samples/r.parquet"}}]))
