"""One kernel under Nsight Compute: the first that is launched in a named range, with its counters.

In: an ncu, a command, a range's name or path. Out: {"kernel", "inside", "metrics": [...]}; ProfileError where ncu may not read
counters or saw no kernel in the range. The kernel is replayed some ten times, what it wrote put back before each: no time
around it means anything. Clocks stay as they are (by default ncu lowers them to the base clock); caches are emptied between
replays, as a model of many layers leaves them.
"""

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.errors import ProfileError
from harness.profile.nsys import run_bounded, tail
from harness.profile.read import DOMAIN
from harness.profile.table import PHASES, ROOTS

HEADER = "Kernel Name"
SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "LaunchStats")
"""Some ten replays of the kernel; `--set full` takes forty."""
NO_PERMISSION = "ERR_NVGPUCTRPERM"


def find_ncu() -> str | None:
    """The ncu on the PATH, or of the CUDA toolkit's usual place."""
    found = shutil.which("ncu")
    return found or next((str(path) for path in sorted(Path("/usr/local").glob("cuda*/bin/ncu"), reverse=True)), None)


def ncu_command(ncu: str, inside: str, command: list[str]) -> list[str]:
    """`inside`: a push/pop range of ours, or several from the outermost in, as "prefill/experts"."""
    sections = [part for name in SECTIONS for part in ("--section", name)]
    nvtx = ["--nvtx", "--nvtx-include", stack_filter(inside)]
    return [ncu, *nvtx, "--launch-count", "1", "--clock-control", "none", *sections, "--csv", "--page", "details", *command]


def stack_filter(inside: str) -> str:
    """ncu's words for it. A name alone is looked for in decode steps: a prompt goes through the same ranges before them."""
    names = inside.split("/")
    if names[0] not in ROOTS:
        names.insert(0, PHASES[0])
    # A slash makes a range one of push and pop; a star stands for any ranges between.
    return f"{DOMAIN}@{'/*/'.join(names)}" if len(names) > 1 else f"{DOMAIN}@{names[0]}/"


def one_kernel(ncu: str, inside: str, command: list[str], folder: Path, *, timeout_s: float) -> dict:
    """Run `command`, which must push NVTX ranges, under ncu."""
    log = folder / "ncu.log"
    ended = run_bounded(ncu_command(ncu, inside, command), log=log, timeout_s=timeout_s, what="ncu")
    if NO_PERMISSION in ended.output:
        raise ProfileError(f"ncu: the driver lets only an administrator read counters ({NO_PERMISSION}); run as one")
    rows = parse(ended.output)
    if not rows:
        raise ProfileError(f"ncu: no kernel was launched in the range {inside!r} (exit code {ended.code}). {tail(log)}")
    metrics = [
        {"section": row["Section Name"], "name": row["Metric Name"], "unit": row["Metric Unit"], "value": row["Metric Value"]}
        for row in rows
        if row.get("Metric Name")
    ]
    return {"kernel": rows[0][HEADER], "inside": inside, "metrics": metrics}


def parse(output: str) -> list[dict]:
    """The CSV rows that stand between ncu's own lines (==PROF==) and the program's."""
    lines = output.splitlines()
    first = next((index for index, line in enumerate(lines) if line.startswith('"') and f'"{HEADER}"' in line), None)
    if first is None:
        return []
    return list(csv.DictReader(io.StringIO("\n".join(_of_rows(lines[first:])))))


def _of_rows(lines: list[str]) -> Iterator[str]:
    """Lines that begin with a quote, and those that go on inside one: the column of ranges has several lines a row."""
    is_open = False
    for line in lines:
        if is_open or line.startswith('"'):
            yield line
            is_open ^= line.count('"') % 2 == 1
