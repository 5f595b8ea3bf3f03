"""One repeat of a cell as the data of its timeline, from the samples on disk.

In: measured cells. Out: `Timeline`s: JSON-ready data in microseconds since the first request was due, a caption. Of several
repeats the one with the middle throughput is shown. A sample file that is missing leaves its lane out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.report.cells import REFERENCE_SPEED, MeasuredCell
from harness.report.timeline.blocks import MAX_RANGES, join_steps, rows_of, thin

MAX_TIMELINES = 8
PHASES = ("prefill", "decode")
READINGS = {
    "utilization_pct": ("utilisation", "%"),
    "sm_clock_mhz": ("SM clock", "MHz"),
    "memory_clock_mhz": ("memory clock", "MHz"),
    "power_w": ("power", "W"),
    "temperature_c": ("temperature", "°C"),
    "memory_used_bytes": ("memory in use", "GB"),
    "rss_bytes": ("worker's memory (RSS)", "GB"),
    "throttle_reasons": ("throttled", "0/1"),
}


@dataclass(frozen=True, slots=True)
class Timeline:
    """`data` is embedded as JSON."""

    name: str
    title: str
    caption: str
    data: dict


def timelines(cells: Sequence[MeasuredCell]) -> tuple[tuple[Timeline, ...], str]:
    """At most MAX_TIMELINES, and a sentence about those left out ("" when none is)."""
    wanted = [cell for cell in cells if not cell.is_heldout and cell.records]
    drawn = [found for cell in wanted[:MAX_TIMELINES] if (found := _timeline(cell)) is not None]
    left = len(wanted) - MAX_TIMELINES
    note = f"{left} more cells have samples; report fewer runs or cells to see theirs." if left > 0 else ""
    return tuple(drawn), note


def _timeline(cell: MeasuredCell) -> Timeline | None:
    record = sorted(cell.records, key=_throughput)[len(cell.records) // 2]
    samples = {kind: cell.run.path / name for kind, name in (record.get("samples") or {}).items()}
    requests = _table(samples, "requests", "scheduled_ns submitted_ns first_token_ns end_ns prompt_tokens output_tokens")
    requests = [row for row in requests if row["end_ns"]]
    if not requests:
        return None
    zero_ns = min(row["scheduled_ns"] for row in requests)
    data = {"requests": _requests(requests, zero_ns), "steps": _steps(samples, zero_ns), "ranges": _ranges(samples, zero_ns)}
    data |= {"telemetry": _telemetry(samples, zero_ns), "end": _us(max(row["end_ns"] for row in requests), zero_ns)}
    title = f"{cell.name} ({cell.method}), {cell.workload}, {cell.model} on {cell.target}, repeat {record.get('repeat', 0)}"
    return Timeline(f"{cell.cell_id}", title, _caption(cell, data), data | {"title": title})


def _caption(cell: MeasuredCell, data: dict) -> str:
    joined = max(data["steps"]["count"], default=1) if data["steps"] else 1
    parts = [f"{len(data['requests']['start'])} requests over {data['end'] / 1e6:.1f} s."]
    parts += [f"A block of the steps' lane holds up to {joined} steps."] if joined > 1 else []
    parts += ["Layers and operations: zoom in."] if data["ranges"] else []
    parts += [f"{REFERENCE_SPEED[0].upper()}{REFERENCE_SPEED[1:]}."] if cell.is_reference else []
    return " ".join(parts)


def _throughput(record: dict) -> float:
    return ((record.get("metrics") or {}).get("output_throughput") or {}).get("value") or 0.0


def _us(time_ns: int | None, zero_ns: int) -> int | None:
    return None if time_ns is None else round((time_ns - zero_ns) / 1e3)


def _table(samples: dict[str, Path], kind: str, columns: str) -> list[dict]:
    """Rows of a sample file; none where it is not there."""
    import pyarrow.parquet as parquet

    path = samples.get(kind)
    if path is None or not path.is_file():
        return []
    have = set(parquet.read_schema(path).names)
    rows = parquet.read_table(path, columns=[name for name in columns.split() if name in have]).to_pylist()
    return [dict.fromkeys(columns.split()) | row for row in rows]


def _requests(rows: list[dict], zero_ns: int) -> dict[str, list]:
    stamps = {"start": "scheduled_ns", "sent": "submitted_ns", "first": "first_token_ns", "end": "end_ns"}
    columns = {name: [_us(row[key], zero_ns) for row in rows] for name, key in stamps.items()}
    columns["row"] = rows_of(columns["start"], columns["end"])
    return columns | {"prompt": [row["prompt_tokens"] for row in rows], "output": [row["output_tokens"] for row in rows]}


def _steps(samples: dict[str, Path], zero_ns: int) -> dict[str, list] | None:
    rows = _table(samples, "steps", "phase start_ns end_ns num_tokens num_requests experts_hit")
    if not rows:
        return None
    columns = {
        "start": np.array([_us(row["start_ns"], zero_ns) for row in rows]),
        "end": np.array([_us(row["end_ns"], zero_ns) for row in rows]),
        "phase": np.array([PHASES.index(row["phase"]) for row in rows]),
        "tokens": np.array([row["num_tokens"] for row in rows]),
        "requests": np.array([row["num_requests"] for row in rows]),
        "hit": np.array([np.nan if row["experts_hit"] is None else row["experts_hit"] for row in rows], dtype=float),
    }
    return join_steps(columns)


def _ranges(samples: dict[str, Path], zero_ns: int) -> dict[str, list] | None:
    rows = _table(samples, "ranges", "name start_ns end_ns depth layer")
    if not rows:
        return None
    rows = sorted(rows, key=lambda row: row["start_ns"])[:MAX_RANGES]
    names = list(dict.fromkeys(row["name"] for row in rows))
    number = {name: index for index, name in enumerate(names)}
    return {
        "names": names,
        "name": [number[row["name"]] for row in rows],
        "start": [_us(row["start_ns"], zero_ns) for row in rows],
        "end": [_us(row["end_ns"], zero_ns) for row in rows],
        "depth": [row["depth"] for row in rows],
        "layer": [row["layer"] for row in rows],
    }


def _telemetry(samples: dict[str, Path], zero_ns: int) -> list[dict]:
    rows = _table(samples, "telemetry", " ".join(["time_ns", "device", *READINGS]))
    series = []
    for device in dict.fromkeys(row["device"] for row in rows):
        ours = [row for row in rows if row["device"] == device]
        times = np.array([_us(row["time_ns"], zero_ns) for row in ours])
        for column, (label, unit) in READINGS.items():
            values = np.array([_reading(column, row[column]) for row in ours], dtype=float)
            shown, numbers = thin(times, values)
            if shown and (column != "throttle_reasons" or any(numbers)):
                rounded = [round(value, 3) for value in numbers]
                series.append({"device": device, "label": label, "unit": unit, "time": shown, "value": rounded})
    return series


def _reading(column: str, value: float | None) -> float:
    from harness.telemetry.sample import THROTTLE_BITS

    if value is None:
        return float("nan")
    if column == "throttle_reasons":
        return float(bool(int(value) & sum(THROTTLE_BITS)))
    return value / 1e9 if column.endswith("_bytes") else value
