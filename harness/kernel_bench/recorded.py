"""Counts per expert out of a file: a JSON histogram, a run's routing.npz, or a parquet of samples.

In: a path. Out: whole numbers, one an expert. A histogram of several layers is summed. Nothing is scaled here.

    .json     [120, 95, ...], [[...], ...] a row a layer, or {"counts": either}
    .npz      `expert_ids` [N, L, K], as runs store it
    .parquet  columns expert and count; or expert_id, or expert_ids, one row a slot or token

Shapes: N tokens, L layers, K experts a token, E experts.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from harness.errors import UsageError


def read_counts(text: str) -> tuple[int, ...]:
    """int a expert; UsageError naming the file and what is wrong."""
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--routing recorded:{text}: no such file; give a .json, .npz or .parquet of a run")
    readers = {".json": _json, ".npz": _npz, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UsageError(f"--routing recorded:{text}: must end in one of {', '.join(readers)}")
    try:
        counts = np.asarray(readers[path.suffix](path), dtype=np.float64)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"--routing recorded:{text}: cannot be read as a histogram ({error})") from None
    if counts.ndim == 2:
        counts = counts.sum(axis=0)
    if counts.ndim != 1 or not len(counts) or counts.sum() <= 0 or (counts < 0).any() or (counts % 1).any():
        raise UsageError(f"--routing recorded:{text}: counts must be whole numbers from 0, one an expert, not all 0")
    return tuple(int(count) for count in counts)


def _json(path: Path):
    found = json.loads(path.read_text(encoding="utf-8"))
    return found["counts"] if isinstance(found, dict) else found


def _npz(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        return np.bincount(arrays["expert_ids"].ravel())


def _parquet(path: Path) -> np.ndarray:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise ValueError("pyarrow is not installed here; save the counts as JSON") from None
    columns = parquet.read_table(path).to_pydict()
    if {"expert", "count"} <= columns.keys():
        return np.bincount(columns["expert"], weights=columns["count"])
    for name in ("expert_id", "expert_ids"):
        if name in columns:
            return np.bincount(np.asarray(columns[name]).ravel())
    raise ValueError(f"columns must be expert and count, or expert_id or expert_ids (got {', '.join(columns)})")
