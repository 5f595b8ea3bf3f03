"""The tokens that each request got, on disk, so that answers of two backends can be held against each other.

In: request id -> token ids. Out: parquet with columns request_id and token_ids, and back.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path


def write_outputs(path: Path, outputs: Mapping[str, Sequence[int]]) -> None:
    """One row a request."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = pa.array([list(tokens) for tokens in outputs.values()], pa.list_(pa.int64()))
    pq.write_table(pa.table({"request_id": list(outputs), "token_ids": ids}), path)


def read_outputs(path: Path) -> dict[str, list[int]]:
    """Request id -> token ids."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return dict(zip(table["request_id"].to_pylist(), table["token_ids"].to_pylist(), strict=True))
