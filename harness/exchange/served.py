"""One repeat of a request workload, ready to be written in another tool's words.

In: a run and a record. Out: `Served`: totals, and the times of each answered request where the samples are beside the record.
Seconds count from the first submission. Totals without samples come from the metrics, which all requests went into.
Our latencies count from when a request was due, other clients' from when they sent it: `latencies_s` and `sent_latencies_s`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.exchange.errors import ExchangeError
from harness.report.data import LoadedRun

NS = 1e9


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One answered request, seconds; `ttft_s` and `latency_s` count from when it was due, `queue_s` before it was sent."""

    start_s: float
    queue_s: float
    ttft_s: float
    latency_s: float
    gaps_s: tuple[float, ...]
    prompt_tokens: int
    output_tokens: int

    @property
    def tpot_s(self) -> float | None:
        return (self.latency_s - self.ttft_s) / (self.output_tokens - 1) if self.output_tokens > 1 else None


@dataclass(frozen=True, slots=True)
class Served:
    """What was served in one repeat. `requests` is None where the samples are not beside the record."""

    run: LoadedRun
    record: dict
    num_completed: int
    num_failed: int
    duration_s: float
    input_tokens: int
    output_tokens: int
    requests: tuple[RequestRow, ...] | None

    @property
    def workload(self) -> dict:
        return self.record["workload"]

    @property
    def name(self) -> str:
        """For a file: the cell and the repeat."""
        return f"{self.record['cell_id'].replace('/', '-')}-r{self.record['repeat']}"

    def metric(self, name: str) -> float | None:
        return (self.record["metrics"].get(name) or {}).get("value")

    @property
    def concurrency(self) -> int | None:
        """Requests in flight of a closed loop; None in an open one."""
        return (self.workload.get("arrival") or {}).get("concurrency")

    def latencies_s(self, family: str) -> list[float]:
        """Samples of ttft, tpot, itl or e2el as defined in harness/metrics; needs `requests`."""
        return _FAMILIES[family](self.requests)

    def sent_latencies_s(self, family: str) -> list[float]:
        """The same with ttft and e2el from the time of sending, as other clients count; needs `requests`."""
        rows = [replace(row, ttft_s=row.ttft_s - row.queue_s, latency_s=row.latency_s - row.queue_s) for row in self.requests]
        return _FAMILIES[family](rows)

    def mean_tokens(self, field: str) -> float:
        """`prompt_tokens` or `output_tokens` of a request: what was asked where that is one number, else the mean served."""
        asked = self.workload[field]
        if isinstance(asked, int | float):
            return float(asked)
        return (self.input_tokens if field == "prompt_tokens" else self.output_tokens) / self.num_completed

    @property
    def max_in_flight(self) -> int | None:
        """The cap on requests in flight; None for none."""
        arrival = self.workload.get("arrival") or {}
        return arrival.get("concurrency") or arrival.get("max_concurrency")

    @property
    def rate_per_s(self) -> float | None:
        """Requests a second of an open loop; None in a closed one."""
        return (self.workload.get("arrival") or {}).get("rate_per_s")


_FAMILIES = {
    "ttft": lambda rows: [row.ttft_s for row in rows],
    "tpot": lambda rows: [row.tpot_s for row in rows if row.tpot_s is not None],
    "itl": lambda rows: [gap for row in rows for gap in row.gaps_s],
    "e2el": lambda rows: [row.latency_s for row in rows],
}


def served_in(run: LoadedRun) -> Iterator[Served]:
    """Every finished and valid repeat of a request workload; ExchangeError when there is none."""
    found = [record for record in run.records if _is_exportable(record)]
    if not found:
        raise ExchangeError(f"{run.path}: no finished, valid repeat of a request workload, so there is nothing to export")
    for record in found:
        yield _served(run, record)


def _is_exportable(record: dict) -> bool:
    is_requests = record["workload"]["kind"] == "requests"
    is_good = record["status"] == "ok" and record["verdict"]["state"] != "INVALID"
    return is_requests and is_good and (record["metrics"].get("request_throughput") or {}).get("value") is not None


def _served(run: LoadedRun, record: dict) -> Served:
    metrics = record["metrics"]
    completed = metrics["request_throughput"]["n"]
    duration_s = completed / metrics["request_throughput"]["value"]
    output = round(metrics["output_throughput"]["value"] * duration_s)
    total = round(metrics["total_token_throughput"]["value"] * duration_s)
    asked = record["workload"].get("num_requests") or completed
    return Served(run, record, completed, asked - completed, duration_s, total - output, output, _requests(run, record))


def _requests(run: LoadedRun, record: dict) -> tuple[RequestRow, ...] | None:
    name = (record.get("samples") or {}).get("requests")
    path = run.path / name if name else None
    return None if path is None or not path.is_file() else _read(path)


def _read(path: Path) -> tuple[RequestRow, ...]:
    import pyarrow.parquet as parquet

    rows = [row for row in parquet.read_table(path).to_pylist() if _is_answered(row)]
    first_ns = min((row["submitted_ns"] for row in rows), default=0)
    return tuple(
        RequestRow(
            start_s=(row["submitted_ns"] - first_ns) / NS,
            queue_s=(row["submitted_ns"] - row["scheduled_ns"]) / NS,
            ttft_s=row["ttft_ms"] / 1e3,
            latency_s=row["e2el_ms"] / 1e3,
            gaps_s=_gaps(row["token_times_ns"]),
            prompt_tokens=row["prompt_tokens"],
            output_tokens=row["output_tokens"],
        )
        for row in rows
    )


def _is_answered(row: dict) -> bool:
    """Whether the metrics count it: the load client's samples hold warm-up and failed requests too."""
    return bool(row["output_tokens"]) and not row.get("is_warmup") and row.get("failure") is None


def _gaps(times_ns: list[int]) -> tuple[float, ...]:
    return tuple((after - before) / NS for before, after in zip(times_ns[:-1], times_ns[1:], strict=True))
