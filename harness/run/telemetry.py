"""Telemetry beside a measurement: sampled in this process, joined to the result that the worker gives.

In: a worker, its result. Out: the result with telemetry's metrics, samples and reasons. The window is that of the
requests: from the first submission to the last token, as the request samples tell it. A measurement without requests
(quality) keeps its samples and gets no metric.
"""

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from harness.collect.latency import StepTimes
from harness.collect.values import measured, missing
from harness.device import num_cores
from harness.record.write import RunWriter
from harness.run.prepare import Prepared
from harness.telemetry import store
from harness.telemetry.judge import judge_host, judge_telemetry
from harness.telemetry.pace import read_steps
from harness.telemetry.sampler import Sampler, Telemetry, open_sampler
from harness.telemetry.summary import Window, telemetry_metrics
from harness.verdict import Reason, add_reasons


def watched(worker, prepared: Prepared) -> Sampler:
    """A sampler of the worker's process and, on a GPU, of every visible GPU."""
    return open_sampler(worker.pid, on_gpu=prepared.device.is_gpu, rate_hz=prepared.scenario.telemetry_rate_hz)


def add_telemetry(
    result: dict, telemetry: Telemetry, prepared: Prepared, *, folder: str, stem: str, never_waits: bool = False
) -> None:
    """Complete `result` in place; StorageError when the samples cannot be stored.

    `never_waits`: the worker always had a request to work on, so that an idle core is another program's doing.
    """
    if not result.get("samples"):
        return
    writer = RunWriter(Path(folder))
    name = free_name(writer.folder, stem)
    result["samples"]["telemetry"] = writer.store(name, lambda path: store.write(path, telemetry))
    window = window_of(writer.folder, result["samples"])
    if window is None:
        return
    result["metrics"] |= telemetry_metrics(telemetry, window)
    result["metrics"]["outside_allocator_bytes"] = outside_allocator(result["metrics"])
    threads = prepared.scenario.cpu_threads if never_waits else None
    steps = read_steps(writer.folder, result["samples"])
    reasons = device_reasons(telemetry, window, steps, on_gpu=prepared.device.is_gpu, threads=threads)
    result["verdict"] = add_reasons(result["verdict"], reasons)


def free_name(folder: Path, stem: str) -> str:
    """Where readings go. A quality that is measured again after a resume must leave those of the first record as they are."""
    first = f"samples/{stem}-telemetry"
    names = chain([f"{first}.parquet"], (f"{first}-{number}.parquet" for number in count(2)))
    return next(name for name in names if not (folder / name).exists())


def device_reasons(
    telemetry: Telemetry,
    window: Window,
    steps: Sequence[StepTimes],
    *,
    on_gpu: bool,
    threads: int | None,
    cores: int | None = None,
) -> list[Reason]:
    """`threads`: of a worker that never waits for a request; None when it may. Several threads wait for each other.

    `cores`: of the machine that ran it; None for this one.
    """
    if not on_gpu and threads == 1:
        return judge_host(telemetry, window, threads=1, num_cores=cores or num_cores())
    return judge_telemetry(telemetry, window, on_gpu=on_gpu, steps=steps)


def outside_allocator(metrics: dict) -> dict:
    """What the process holds on the device beside PyTorch's allocator; null where a part of the sum is."""
    name = "outside_allocator_bytes"
    parts = ("peak_device_memory_bytes", "other_processes_bytes", "reserved_bytes")
    values = [metrics.get(part, {}).get("value") for part in parts]
    if None in values:
        lacking = next(part for part, value in zip(parts, values, strict=True) if value is None)
        return missing(name, metrics.get(lacking, {}).get("reason") or f"{lacking} was not measured")
    return measured(name, values[0] - values[1] - values[2], 1)


def window_of(folder: Path, samples: dict[str, str]) -> Window | None:
    """From first submission to last token; None without request samples or tokens."""
    import pyarrow.parquet as parquet

    if "requests" not in samples:
        return None
    rows = parquet.read_table(folder / samples["requests"], columns=["submitted_ns", "end_ns", "output_tokens"]).to_pylist()
    ended = [row for row in rows if row["end_ns"] is not None and row["submitted_ns"] is not None]
    if not ended:
        return None
    start, end = min(row["submitted_ns"] for row in ended), max(row["end_ns"] for row in ended)
    return Window(start, end, sum(row["output_tokens"] for row in ended)) if end > start else None
