"""The `profile` block of a record, from what the passes of a cell left.

In: the run's folder, the profiled process's result, nsys's trace and passes where there are any. Out: plain data: the rows of
the table with the source of each half, notes, attribution, a decode step as the host lives it, overheads, times by layer,
facts for the roofline. Runs nothing.
"""

from dataclasses import asdict
from pathlib import Path
from statistics import median

from harness.profile import read
from harness.profile.host_step import HostStep, host_step
from harness.profile.layers import layer_times
from harness.profile.spans import Trace
from harness.profile.table import CONTAINERS, PHASES, ROOTS, Profile, tabulate


def profile_block(
    folder: Path,
    result: dict,
    nsys: Trace | None,
    under_nsys: list[dict] | None,
    *,
    on_gpu: bool,
    nsys_cost: dict | None = None,
) -> dict:
    """`result`: of the process without nsys; `under_nsys`, `nsys_cost`: passes and price of a range of the one with it."""
    passes = result["passes"]
    host, gpu, notes = read.sources(folder, passes, nsys, on_gpu=on_gpu)
    found = tabulate(host, gpu)
    step = host_step(host, roots=ROOTS, phases=PHASES, containers=CONTAINERS)
    cost = result["cost"] | {key: ns for key, ns in (nsys_cost or {}).items() if key == "nvtx_ns"}
    return {
        "sources": found.sources,
        "notes": [*notes, *(note for note in found.notes if note not in notes)],
        "rows": [row.to_json() for row in found.rows],
        "attributed": {phase: found.attributed(phase) for phase in PHASES if found.attributed(phase)},
        "host_step": step.to_json() if step else None,
        "overhead": [asdict(one) for one in read.overheads(passes, under_nsys)],
        "cost": _cost(cost, found, step, passes),
        "layers": layer_times(host, gpu if found.sources["gpu"] else None),
        "facts": result["facts"],
    }


def _cost(cost: dict, found: Profile, step: HostStep | None, passes: list[dict]) -> dict:
    """What ranges cost a decode step by their own price: ranges a step x nanoseconds a range, for each kind of listening."""
    row = found.row("decode step")
    off = [second for done in passes if done["name"] == "off" for second in done["decode_s"]]
    if row is None or row.host is None or not off:
        return cost
    counts = [row.host.count for row in found.rows if row.path[0] == "decode step" and row.host]
    num_ranges = step.num_ranges if step else sum(counts) / row.host.count
    kinds = [kind for kind in ("off", "collector", "nvtx") if f"{kind}_ns" in cost]
    shares = {f"{kind}_share": num_ranges * cost[f"{kind}_ns"] / (median(off) * 1e9) for kind in kinds}
    return cost | {"ranges_a_step": num_ranges} | shares
