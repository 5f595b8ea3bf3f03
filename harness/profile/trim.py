"""A Chrome trace cut down to its last decode steps, small enough to be kept beside a record.

In: a file of `torch.profiler`, plain or .gz, and how many steps. Out: the same file, with the steps' ranges and calls, the
kernels that they launched (also those that ran later), the arrows between them and the names of threads. A trace with fewer
steps keeps what it has of them; one without any is left as it is. Perfetto opens it as before.
"""

import gzip
import json
from pathlib import Path

from harness.profile.table import PHASES
from harness.profile.torch_trace import load_chrome

NAMES, ARROWS = "M", ("s", "t", "f")
COMPRESSION = 9


def trim(path: Path, steps: int) -> bool:
    """Whether the file was cut; `steps`: how many decode steps are kept."""
    data = load_chrome(path)
    ranges = sorted((e for e in data["traceEvents"] if _is_step(e)), key=lambda event: event["ts"])[-steps:]
    if not ranges:
        return False
    begin, end = ranges[0]["ts"], max(event["ts"] + event["dur"] for event in ranges)
    events = [event for event in data["traceEvents"] if event.get("ph") not in (NAMES, *ARROWS)]
    launched = {_correlation(event) for event in events if _is_host(event) and begin <= event["ts"] <= end} - {None}
    kept = [e for e in events if (_correlation(e) in launched if not _is_host(e) else begin <= e["ts"] <= end)]
    names = [event for event in data["traceEvents"] if event.get("ph") == NAMES]
    arrows = [event for event in data["traceEvents"] if event.get("ph") in ARROWS and event.get("id") in launched]
    data.pop("host_name", None)  # the profiler writes the machine and the file's place on it too
    text = json.dumps(data | {"traceEvents": [*names, *kept, *arrows], "traceName": path.name}, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), COMPRESSION) if path.suffix == ".gz" else text.encode())
    return True


def _is_step(event: dict) -> bool:
    return event.get("cat") == "user_annotation" and event.get("name") == PHASES[0] and "dur" in event


def _is_host(event: dict) -> bool:
    """Whether it has a place of its own in time: calls and ranges, not what a call started on the GPU."""
    return event.get("cat") not in ("kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation")


def _correlation(event: dict):
    return event.get("args", {}).get("correlation")
