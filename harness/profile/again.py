"""GPU columns of a stored profile, taken anew from the torch profiler's traces that its folder keeps.

In: a run's folder. Out: its records with new GPU columns. For a profile that was made by an earlier version of the harness.
Host columns, overheads and everything that needs the machine stay. A trace that was cut (--keep-steps) holds decode steps
alone: what other phases had is kept as it is, and a note says from what the new figures are.
"""

from pathlib import Path

from harness import __version__
from harness.errors import UsageError
from harness.profile.by_path import GpuFigures, gpu_figures
from harness.profile.layers import layer_times
from harness.profile.read import torch_kernels
from harness.profile.spans import Trace
from harness.profile.table import PHASES, ROOTS
from harness.record.read import read_records
from harness.record.write import RECORDS

NOTE = "GPU columns of {phases} taken again from the kept traces (harness {version}); those of other phases are as recorded"
OLD_NOTES = ("GPU columns of ", "GPU times of ")


def profiles_again(folder: Path) -> list[dict]:
    """Every line of records.jsonl; UsageError where no record has a profile whose traces are there."""
    lines = read_records(folder / RECORDS)
    is_held = [_has_traces(folder, record) for record in lines]
    if not any(is_held):
        raise UsageError(
            f"{folder}: no record has a profile with GPU columns and the torch profiler's traces in samples/; "
            "give a scenario to profile anew"
        )
    pairs = zip(lines, is_held, strict=True)
    return [record | {"profile": _again(folder, record["profile"])} if held else record for record, held in pairs]


def _has_traces(folder: Path, record: dict) -> bool:
    block = record.get("profile") or {}
    files = [name for kind, name in (block.get("files") or {}).items() if kind in ("trace", "replays")]
    is_torch = block.get("sources", {}).get("gpu", "").startswith("torch profiler")
    return is_torch and bool(files) and all((folder / name).is_file() for name in files)


def _again(folder: Path, block: dict) -> dict:
    gpu, problems = torch_kernels(folder, [{"name": "torch", "samples": block["files"]}])
    by_gpu, _ = gpu_figures(gpu, ROOTS)
    phases = [phase for phase in PHASES if (phase,) in by_gpu and by_gpu[(phase,)].num_kernels]
    rows = [_row(row, by_gpu) if row["path"][0] in phases else row for row in block["rows"]]
    note = NOTE.format(phases=" and ".join(phases), version=__version__)
    notes = [*(text for text in block["notes"] if not text.startswith(OLD_NOTES)), *gpu.notes]
    layers = _layers(block["layers"], gpu) if PHASES[0] in phases else block["layers"]
    return block | {"rows": rows, "layers": layers, "notes": [*notes, *problems, note]}


def _row(row: dict, by_gpu: dict[tuple[str, ...], GpuFigures]) -> dict:
    path = tuple(row["path"])
    gpu, whole = by_gpu.get(path), by_gpu[path[:1]]
    if gpu is None:
        return row
    return row | {
        "gpu_count": gpu.count,
        "gpu_ns": gpu.total_ns / gpu.count,
        "gpu_share": gpu.total_ns / whole.total_ns if whole.total_ns else None,
        "kernels": gpu.num_kernels / gpu.count,
        "gap_ns": gpu.idle_ns / gpu.count,
    }


def _layers(rows: list[dict], gpu: Trace) -> list[dict]:
    new = {(row["layer"], row["name"]): row["gpu_us"] for row in layer_times(gpu, gpu)}
    return [row | {"gpu_us": new.get((row["layer"], row["name"]), row["gpu_us"])} for row in rows]
