"""A result that another tool measured, in this project's words, before it becomes a record.

In: what a reader found in a file. Out: `ForeignResult`. Figures are the tool's own; nothing is computed again.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.collect.latency import RequestTimes
from harness.exchange.errors import ExchangeError

MAX_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class ForeignResult:
    """One run of another client. `metrics` by the names of harness/metrics; `requests` where the file holds them.

    Families are ttft, tpot, itl and e2el. `counts`: samples of a family, where known. `absent`: why a family is not there.
    `differs`: why a family, or `rates`, is not what harness/metrics defines.
    """

    tool: str
    tool_version: str | None
    tool_backend: str
    model: str
    started_utc: str | None
    duration_s: float
    num_completed: int
    num_failed: int
    prompt_tokens: float
    output_tokens: float
    arrival: dict
    metrics: dict[str, float]
    counts: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)
    requests: tuple[RequestTimes, ...] = ()
    other: dict[str, Any] = field(default_factory=dict)
    """What the file says besides: its configuration, kept as it is."""


def read_json(path: Path) -> list[dict]:
    """One JSON object, or one a line (vLLM's --append-result); ExchangeError naming the file and the line."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ExchangeError(f"{path}: larger than a result can be ({MAX_BYTES // 2**20} MiB)")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExchangeError(f"{path}: cannot be read ({error})") from None
    try:
        found = [json.loads(text)]
    except ValueError:
        found = [_line(path, number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    for item in found:
        if not isinstance(item, dict):
            raise ExchangeError(f"{path}: must hold a JSON object (got {type(item).__name__})")
    if not found:
        raise ExchangeError(f"{path}: is empty")
    return found


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ExchangeError(f"{path}:{number}: not valid JSON ({error})") from None


def number(path: Path, data: dict, key: str, *, minimum: float = 0.0) -> float:
    """A finite number that must be there."""
    value = data.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not minimum <= value < float("inf"):
        raise ExchangeError(
            f"{path}: {key}: must be a number of at least {minimum:g} (got {value!r}); is this the right --format?"
        )
    return float(value)
