"""A torch profiler trace (Chrome JSON) as a Trace: ranges, kernels and the launches that link them.

In: the file that `torch.profiler` exported, plain or .gz. Out: `Trace`; ProfileError for a damaged one. Ranges are events of
category user_annotation; kernels are linked to the host's call by `correlation`. Times in the file are microseconds.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from harness.errors import ProfileError
from harness.profile.spans import Kernel, Span, Trace, apart

GPU_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
CALLS = ("cuda_runtime", "cuda_driver")
LAUNCHES = ("LaunchKernel", "GraphLaunch")
NO_GPU = "torch profiler: no GPU took part"


def read_torch(path: Path, *, expects_gpu: bool) -> Trace:
    """`expects_gpu`: whether the work ran on a GPU, so that missing kernel rows are a fault and not the truth."""
    events = [event for event in load_chrome(path)["traceEvents"] if event.get("ph") == "X"]
    spans = tuple(_spans(events))
    if not expects_gpu:
        return Trace("torch profiler", spans, None, 0, no_kernels=NO_GPU)
    calls = {e["args"]["correlation"]: e for e in events if e.get("cat") in CALLS and "correlation" in e.get("args", {})}
    launches = sum(any(part in call["name"] for part in LAUNCHES) for call in calls.values())
    return Trace("torch profiler", spans, apart(_kernels(events, calls)), launches)


def load_chrome(path: Path) -> dict:
    """The file's JSON, with its list of `traceEvents`."""
    try:
        data = json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        return data | {"traceEvents": list(data["traceEvents"])}
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ProfileError(f"{path}: cannot be read as a torch profiler trace ({type(error).__name__}: {error})") from None


def _ns(microseconds: float) -> int:
    return round(microseconds * 1e3)


def _spans(events: list[dict]) -> Iterator[Span]:
    for event in events:
        if event.get("cat") == "user_annotation" and not event["name"].startswith("ProfilerStep"):
            start = _ns(event["ts"])
            yield Span(event["name"], start, start + _ns(event["dur"]), event.get("tid", 0))


def _kernels(events: list[dict], calls: dict[int, dict]) -> Iterator[Kernel]:
    for event in events:
        if event.get("cat") not in GPU_WORK:
            continue
        arguments = event.get("args", {})
        correlation = arguments.get("correlation")
        call = calls.get(correlation)
        start = _ns(event["ts"])
        graph = correlation if call is not None and "GraphLaunch" in call["name"] else None
        launch = None if call is None else _ns(call["ts"])
        end, stream = start + _ns(event["dur"]), arguments.get("stream", 0)
        yield Kernel(event["name"], start, end, launch, stream, graph, is_copy=event["cat"] != GPU_WORK[0])
