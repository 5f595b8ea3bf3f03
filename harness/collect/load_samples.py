"""A load's samples as parquet: one row a request, written in batches, so that memory stays bounded.

Columns of `harness.collect.tables.write_requests`, then what only a client knows. Warm-up requests are marked.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from harness.client.outcomes import read_outcomes
from harness.client.types import LoadResult, RequestOutcome
from harness.collect.load_times import request_times
from harness.collect.outputs import write_outputs
from harness.collect.tables import request_row
from harness.record.write import RunWriter

BATCH_ROWS = 2048


def store_load(writer: RunWriter, stem: str, result: LoadResult) -> dict[str, str]:
    """Write the samples of a load below the run's folder and remove the client's own file: {name: path}.

    With `keep_text` also `outputs`: the token ids of each answer, held in memory meanwhile.
    """
    stored = writer.store(f"samples/{stem}-requests.parquet", lambda path: write_outcomes(path, result.outcomes_path))
    samples = {"requests": stored}
    if result.options.keep_text:
        outputs = {outcome.request_id: list(outcome.token_ids) for outcome in result.outcomes() if outcome.token_ids}
        samples["outputs"] = writer.store(f"samples/{stem}-outputs.parquet", lambda path: write_outputs(path, outputs))
    result.outcomes_path.unlink()
    return samples


def write_outcomes(path: Path, outcomes: Path) -> None:
    """Convert the client's outcomes to parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(pa)
    with pq.ParquetWriter(path, schema) as file:
        rows = (outcome_row(outcome) for outcome in read_outcomes(outcomes))
        for batch in _batches(rows):
            file.write_table(pa.Table.from_pylist(batch, schema=schema))


def outcome_row(outcome: RequestOutcome) -> dict:
    """One request; latencies are null where it failed."""
    row = request_row(request_times(outcome))
    if outcome.failure is not None:
        row |= dict.fromkeys(("ttft_ms", "tpot_ms", "e2el_ms"))
    return row | {
        "submitted_ns": outcome.sent_ns,
        "ready_ns": outcome.ready_ns,
        "dispatched_ns": outcome.dispatched_ns,
        "ended_ns": outcome.end_ns,
        "failure": outcome.failure,
        "detail": outcome.detail or None,
        "notes": list(outcome.notes),
        "attempts": outcome.attempts,
        "finish_reason": outcome.finish_reason,
        "is_warmup": outcome.is_warmup,
        "text": outcome.text,
        "chunk_tokens": list(outcome.chunk_tokens),
    }


def _schema(pa):
    times, words = ("scheduled_ns", "submitted_ns", "first_token_ns", "end_ns"), pa.string()
    counts, latencies = ("prompt_tokens", "asked_tokens", "output_tokens"), ("ttft_ms", "tpot_ms", "e2el_ms")
    return pa.schema(
        [
            ("request_id", words),
            *((name, pa.int64()) for name in times),
            *((name, pa.int64()) for name in counts),
            *((name, pa.float64()) for name in latencies),
            ("token_times_ns", pa.list_(pa.int64())),
            *((name, pa.int64()) for name in ("ready_ns", "dispatched_ns", "ended_ns")),
            ("failure", words),
            ("detail", words),
            ("notes", pa.list_(words)),
            ("attempts", pa.int64()),
            ("finish_reason", words),
            ("is_warmup", pa.bool_()),
            ("text", words),
            ("chunk_tokens", pa.list_(pa.int64())),
        ]
    )


def _batches(rows: Iterator[dict]) -> Iterator[list[dict]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch
