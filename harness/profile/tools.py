"""Which profiler can run here, how old it is, and where nsys keeps its importer.

In: a wish (auto, nsys, torch). Out: `Nsys` or why there is none. Only looks: runs `nsys --version` with a time limit.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OLDEST = (2021, 3)
"""The first version whose export has the tables that nsys_sqlite reads."""
VERSION_TIMEOUT_S = 20
IMPORTER_FOLDERS = ("host-linux-x64", "host-linux-armv8", "Host-x86_64")


@dataclass(frozen=True, slots=True)
class Nsys:
    """An nsys that answers."""

    path: str
    version: str
    importer: str | None
    """QdstrmImporter, for installations whose nsys does not find it (Debian's)."""


def find_nsys() -> tuple[Nsys | None, str]:
    """(nsys, "") or (None, what is wrong and what to do)."""
    path = os.environ.get("HARNESS_NSYS") or shutil.which("nsys")
    if not path or not shutil.which(path):
        where = f"HARNESS_NSYS={path}" if path else "nsys"
        return None, f"{where} is not here: install Nsight Systems, or put it on the PATH"
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{path} --version did not answer ({type(error).__name__}): the installation is broken"
    found = re.search(r"(\d{4})\.(\d+)(\.[\d.]+)?", done.stdout)
    if not found:
        said = (done.stdout or done.stderr).strip()[:80]
        return None, f"{path} --version names no version (said {said!r}): not Nsight Systems"
    if (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return None, f"{path} is version {found[0]}: needs {oldest} or newer, whose export can be read"
    return Nsys(path, found[0], find_importer(path)), ""


def find_importer(nsys: str) -> str | None:
    """The importer beside this nsys; each layout that was met."""
    target = Path(nsys).resolve().parent
    roots = [target.parent, *(Path(base) / "nsight-systems" for base in ("/usr/lib", "/usr/lib/x86_64-linux-gnu"))]
    for root in roots:
        for folder in IMPORTER_FOLDERS:
            path = root / folder / "QdstrmImporter"
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
    return None
