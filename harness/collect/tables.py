"""Raw samples as files: parquet for rows, npz for arrays. Columns carry their unit in the name."""

from pathlib import Path

import numpy as np

from harness.collect.latency import RequestTimes, StepTimes


def write_requests(path: Path, requests: list[RequestTimes]) -> None:
    """One row a request; latencies are null where a request got no token."""
    _write_parquet(path, [request_row(request) for request in requests])


def request_row(request: RequestTimes) -> dict:
    """The row of one request."""
    tokens, has_any = request.output_tokens, bool(request.token_times_ns)
    return {
        "request_id": request.request_id,
        "scheduled_ns": request.scheduled_ns,
        "submitted_ns": request.submitted_ns,
        "first_token_ns": request.token_times_ns[0] if has_any else None,
        "end_ns": request.token_times_ns[-1] if has_any else None,
        "prompt_tokens": request.prompt_tokens,
        "asked_tokens": request.asked_tokens,
        "output_tokens": tokens,
        "ttft_ms": request.ttft_ms if has_any else None,
        "tpot_ms": request.tpot_ms if has_any and tokens > 1 else None,
        "e2el_ms": request.e2el_ms if has_any else None,
        "token_times_ns": list(request.token_times_ns),
    }


def write_steps(path: Path, steps: list[StepTimes], experts_hit: dict[int, float]) -> None:
    """One row an engine step; `experts_hit` is the mean over layers of the distinct experts of the step."""
    rows = [
        {
            "index": step.index,
            "phase": step.phase,
            "start_ns": step.start_ns,
            "end_ns": step.end_ns,
            "num_tokens": step.num_tokens,
            "num_requests": step.num_requests,
            "experts_hit": experts_hit.get(step.index),
        }
        for step in steps
    ]
    _write_parquet(path, rows)


def write_token_nll(path: Path, nll_nats: np.ndarray) -> None:
    """nll_nats [windows, positions] as rows window, position, nll_nats (float32)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    windows, positions = nll_nats.shape
    columns = {
        "window": np.repeat(np.arange(windows, dtype=np.int32), positions),
        "position": np.tile(np.arange(positions, dtype=np.int32), windows),
        "nll_nats": nll_nats.astype(np.float32).ravel(),
    }
    pq.write_table(pa.table(columns), path)


def read_token_nll(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(nll_nats float64 [tokens], window int [tokens])."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return table["nll_nats"].to_numpy().astype(np.float64), table["window"].to_numpy()


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays by name, compressed."""
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def write_rows(path: Path, rows: list[dict]) -> None:
    """Rows as they are; the columns of the first row, so that an empty table needs no schema of its own."""
    _write_parquet(path, rows)


def _write_parquet(path: Path, rows: list[dict]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)
