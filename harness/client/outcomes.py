"""Outcomes on disk: one JSON object a line, appended as requests end, so that memory stays bounded.

The keys are those of `RequestOutcome`; what is empty is left out.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import orjson

from harness.client.types import RequestOutcome

_FIELDS = tuple(f.name for f in fields(RequestOutcome))
_TUPLES = ("chunk_times_ns", "chunk_tokens", "notes", "stamps_ns", "token_ids")
_REQUIRED = ("sent_ns", "usage_prompt_tokens", "usage_output_tokens", "failure")
_ALL_ONES = "all_ones"


class OutcomeWriter:
    """Appends outcomes to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=1 << 18)

    def add(self, outcome: RequestOutcome) -> None:
        """Write one outcome."""
        values = {name: getattr(outcome, name) for name in _FIELDS}
        row = {name: value for name, value in values.items() if not (value is None or value is False or value in ((), ""))}
        if outcome.chunk_tokens and set(outcome.chunk_tokens) == {1}:
            row["chunk_tokens"] = _ALL_ONES
        self._file.write(orjson.dumps(row) + b"\n")

    def close(self) -> None:
        self._file.close()


def read_outcomes(path: Path) -> Iterator[RequestOutcome]:
    """The outcomes of a file, one by one."""
    with path.open("rb", buffering=1 << 18) as file:
        for line in file:
            row = orjson.loads(line)
            if row.get("chunk_tokens") == _ALL_ONES:
                row["chunk_tokens"] = (1,) * len(row["chunk_times_ns"])
            for name in _TUPLES:
                row[name] = tuple(row.get(name, ()))
            yield RequestOutcome(**dict.fromkeys(_REQUIRED) | {"prompt_tokens": 0} | row)
