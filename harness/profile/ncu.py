"""One kernel under Nsight Compute: the first that is launched in a named range, with its counters.

In: an ncu, a command, a range's name. Out: {"kernel", "inside", "metrics": [...]}; ProfileError where ncu may not read counters
or saw no kernel in the range. The kernel is replayed several times: no time around it means anything.
"""

import csv
import io
import shutil
from pathlib import Path

from harness.errors import ProfileError
from harness.profile.nsys import run_bounded, tail
from harness.profile.read import DOMAIN

HEADER = "Kernel Name"
NO_PERMISSION = "ERR_NVGPUCTRPERM"


def find_ncu() -> str | None:
    """The ncu on the PATH, or of the CUDA toolkit's usual place."""
    found = shutil.which("ncu")
    return found or next((str(path) for path in sorted(Path("/usr/local").glob("cuda*/bin/ncu"), reverse=True)), None)


def ncu_command(ncu: str, inside: str, command: list[str]) -> list[str]:
    """`inside`: a push/pop range of ours; the slash says so to ncu."""
    nvtx = ["--nvtx", "--nvtx-include", f"{DOMAIN}@{inside}/"]
    return [ncu, *nvtx, "--launch-count", "1", "--csv", "--page", "details", *command]


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
    return list(csv.DictReader(io.StringIO("\n".join(line for line in lines[first:] if line.startswith('"')))))
