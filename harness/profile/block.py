"""The `profile` block of a record, from what the passes of a cell left.

In: the run's folder, the profiled process's result, nsys's trace and passes where there are any. Out: plain data: the rows of
the table with the source of each half, notes, attribution, overheads, times by layer, facts for the roofline. Runs nothing.
"""

from dataclasses import asdict
from pathlib import Path
from statistics import median

from harness.profile import read
from harness.profile.layers import layer_times
from harness.profile.spans import Trace
from harness.profile.table import PHASES, Profile, tabulate


def profile_block(folder: Path, result: dict, nsys: Trace | None, under_nsys: list[dict] | None, *, on_gpu: bool) -> dict:
    """`result`: of the process without nsys; `under_nsys`: the passes of the one with it."""
    passes = result["passes"]
    host, gpu, notes = read.sources(folder, passes, nsys, on_gpu=on_gpu)
    found = tabulate(host, gpu)
    return {
        "sources": found.sources,
        "notes": [*notes, *(note for note in found.notes if note not in notes)],
        "rows": [row.to_json() for row in found.rows],
        "attributed": {phase: found.attributed(phase) for phase in PHASES if found.attributed(phase)},
        "overhead": [asdict(one) for one in read.overheads(passes, under_nsys)],
        "cost": _cost(result["cost"], found, passes),
        "layers": layer_times(host, gpu if found.sources["gpu"] else None),
        "facts": result["facts"],
    }


def _cost(cost: dict, found: Profile, passes: list[dict]) -> dict:
    """What the collector costs a decode step by its own price: ranges a step x nanoseconds a range."""
    step = found.row("decode step")
    off = [second for done in passes if done["name"] == "off" for second in done["decode_s"]]
    if step is None or step.host is None or not off:
        return cost
    counts = [row.host.count for row in found.rows if row.path[0] == "decode step" and row.host]
    num_ranges = sum(counts) / step.host.count
    share = {kind: num_ranges * cost[f"{kind}_ns"] / (median(off) * 1e9) for kind in ("off", "collector")}
    return cost | {"ranges_a_step": num_ranges, "off_share": share["off"], "collector_share": share["collector"]}
