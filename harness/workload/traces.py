"""Recorded traces: a file in one of three public formats -> times, lengths, block hashes, and what was wrong in it.

Mooncake (jsonl): timestamp in ms, input_length, output_length, hash_ids. Azure (csv): TIMESTAMP as date and time,
ContextTokens, GeneratedTokens. BurstGPT (csv): Timestamp in s, Request tokens, Response tokens. A row that cannot be
used is named and counted; more than one row and 1 % of them make the file unusable. Files are read row by row.
"""

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from harness.errors import ScenarioError
from harness.scenario.source import TraceSource

MAX_BAD_SHARE = 0.01
MAX_SHOWN = 5
MAX_LENGTH = 2**24
_DATE = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace."""

    time_s: float
    prompt_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """The rows of a cut, sorted by time, and what was left out or changed."""

    rows: tuple[TraceRow, ...]
    problems: tuple[str, ...]
    """`file:line: rule (got value)` of each row that could not be used."""
    num_unsorted: int
    """Rows that stood after a later one."""
    num_cut: int
    """Rows whose prompt or answer was cut to the source's limit."""


class _BadRow(ValueError):
    """Why a row cannot be used."""


def read_trace(source: TraceSource, num_requests: int) -> Trace:
    """The first `num_requests` rows of the cut. Raises ScenarioError when too much of the file is unusable."""
    path = Path(source.path)
    return _read(source, num_requests, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=8)
def _read(source: TraceSource, num_requests: int, _mtime_ns: int) -> Trace:
    path = Path(source.path)
    rows, problems, unsorted, cut, seen = [], [], 0, 0, 0
    end_s = math.inf if source.duration_s is None else source.start_s + source.duration_s
    try:
        for place, item in _READERS[source.kind](path):
            seen += 1
            row = item if isinstance(item, TraceRow) else None
            if row is None:
                problems.append(f"{place}: {item}")
                continue
            if not source.start_s <= row.time_s < end_s:
                continue
            unsorted += bool(rows) and row.time_s < rows[-1].time_s
            limited = _limited(row, source)
            cut += limited != row
            rows.append(limited)
            if len(rows) == num_requests:
                break
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScenarioError([f"{path}: cannot be read as a {source.kind} trace ({error})"]) from None
    _judge(path, source, rows, problems, seen)
    return Trace(tuple(sorted(rows, key=lambda row: row.time_s)), tuple(problems), unsorted, cut)


def _judge(path: Path, source: TraceSource, rows: list, problems: list[str], seen: int) -> None:
    shown = [*problems[:MAX_SHOWN], *([f"... and {len(problems) - MAX_SHOWN} more"] if len(problems) > MAX_SHOWN else [])]
    if len(problems) > max(1, MAX_BAD_SHARE * seen):
        raise ScenarioError([f"{path}: {len(problems)} of {seen} rows cannot be used; repair the file:", *shown])
    if not rows:
        cut = f"start_s {source.start_s:g}, duration_s {source.duration_s}"
        raise ScenarioError([f"{path}: no row of this {source.kind} trace lies in the cut ({cut}; {seen} rows read)", *shown])


def _limited(row: TraceRow, source: TraceSource) -> TraceRow:
    prompt = min(row.prompt_tokens, source.max_prompt_tokens or row.prompt_tokens)
    output = min(row.output_tokens, source.max_output_tokens or row.output_tokens)
    return TraceRow(row.time_s, prompt, output, row.hash_ids)


def _mooncake(path: Path) -> Iterator[tuple[str, TraceRow | str]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path}:{number}", _attempt(lambda line=line: _mooncake_row(line))


def _mooncake_row(line: str) -> TraceRow:
    try:
        row = json.loads(line)
    except ValueError:
        raise _BadRow("not JSON, perhaps cut off") from None
    if not isinstance(row, dict):
        raise _BadRow(f"must be a JSON object (got {type(row).__name__})")
    for key in ("timestamp", "input_length", "output_length"):
        if key not in row:
            raise _BadRow(f"lacks {key}")
    hashes = row.get("hash_ids", [])
    if not isinstance(hashes, list) or not all(isinstance(item, int) for item in hashes):
        raise _BadRow("hash_ids must be a list of whole numbers")
    return _row(_number(row["timestamp"], "timestamp") / 1e3, row["input_length"], row["output_length"], tuple(hashes))


def _csv_reader(columns: tuple[str, str, str], time_of: Callable[[str], float], *, relative: bool):
    """A reader of a csv trace; `relative`: times are counted from the first row's."""

    def read(path: Path) -> Iterator[tuple[str, TraceRow | str]]:
        first = None
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in columns if name not in (table.fieldnames or ())]
            if missing:
                raise ScenarioError([f"{path}:1: lacks the column {missing[0]!r} (has {', '.join(table.fieldnames or ())})"])
            for cells in table:
                place = f"{path}:{table.line_num}"
                item = _attempt(lambda cells=cells: _csv_row(cells, columns, time_of))
                if relative and isinstance(item, TraceRow):
                    first = item.time_s if first is None else first
                    item = TraceRow(item.time_s - first, item.prompt_tokens, item.output_tokens)
                    item = item if item.time_s >= 0 else "is earlier than the first row"
                yield place, item

    return read


def _csv_row(cells: dict, columns: tuple[str, str, str], time_of: Callable[[str], float]) -> TraceRow:
    if any(cells[name] is None for name in columns):
        raise _BadRow("has too few columns, perhaps cut off")
    time, prompt, output = (cells[name] for name in columns)
    return _row(time_of(time), prompt, output)


def _row(time_s: float, prompt, output, hash_ids: tuple[int, ...] = ()) -> TraceRow:
    if time_s < 0:
        raise _BadRow(f"time must not be negative (got {time_s:g} s)")
    return TraceRow(time_s, _length(prompt, "prompt"), _length(output, "output"), hash_ids)


def _length(value, what: str) -> int:
    number = _number(value, f"{what} tokens")
    if number != int(number) or not 1 <= number <= MAX_LENGTH:
        raise _BadRow(f"{what} tokens must be a whole number from 1 (got {value!r})")
    return int(number)


def _number(value, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise _BadRow(f"{what} must be a number (got {value!r})")
    return number


def _date_s(text: str) -> float:
    """Azure writes up to seven digits of a second, and since 2024 a time zone."""
    match = _DATE.fullmatch(text.strip())
    try:
        day, fraction, zone = match.groups(default="") if match else ("", "", "")
        return datetime.fromisoformat(day + (zone or "+00:00")).timestamp() + float(fraction or 0)
    except ValueError:
        raise _BadRow(f"TIMESTAMP must be a date and time (got {text!r})") from None


def _attempt(make: Callable[[], TraceRow]) -> TraceRow | str:
    try:
        return make()
    except _BadRow as error:
        return str(error)


_READERS = {
    "mooncake": _mooncake,
    "azure": _csv_reader(("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _date_s, relative=True),
    "burstgpt": _csv_reader(
        ("Timestamp", "Request tokens", "Response tokens"), lambda text: _number(text, "Timestamp"), relative=False
    ),
}
