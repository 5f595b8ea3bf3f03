"""One cell of the native backend, passed over several times, each with other listeners on its ranges.

In: a loaded backend, a workload, the passes by name. Out: a result a pass (seconds of each decode step), and, in the folder,
what the listeners saw. `off`: nothing listens. `ranges`: a Collector. `nvtx`: the NVTX tool that started this process. `torch`:
the torch profiler, over a shortened workload, eager where the engine has CUDA graphs, and once more over the graphs' replays.
Every pass serves the same requests in the same order with an engine of its own, the KV cache included.
"""

import json
import timeit
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from fp4moe import nvtx, ranges
from fp4moe.runtime import RoutingRecorder, engine_here, make_engine
from harness.backends import model_facts, native_speed
from harness.backends.watched import Watched
from harness.collect import tables
from harness.errors import ProfileError
from harness.record.write import RunWriter
from harness.scenario.arrival import num_slots
from harness.scenario.schema import WorkloadSpec
from harness.workload.requests import plan_requests

PASSES = ("off", "ranges", "nvtx", "torch")
"""A cell with a true `eager` makes them without CUDA graphs: for ncu, which sees no kernel inside one, and for `--eager`."""
COST_RANGES = 2000
TOOL_RANGES = 200
"""Fewer: the tool keeps each."""
TRACE_OUTPUT_TOKENS = 6
"""A traced step holds thousands of events; five decode steps say what a kernel takes."""


def profile(backend, *, cell: dict, folder: Path, seed: int, passes: list[str], progress) -> dict:
    """{"passes": [{"name", "decode_s", "samples"}], "nvtx": which tool listened or why none, "device"}."""
    spec = WorkloadSpec.model_validate(cell["workload"])
    text = backend.text()
    tokens = None if text is None else text[0]
    planned = plan_requests(spec, tokens, backend.model.config.vocab_size, seed)
    is_eager = bool(cell.get("eager"))
    sizes = native_speed.sizes_of(spec)
    engine = _new_engine(backend, spec, planned, eager=True)[0] if is_eager else backend.engines.get(*sizes).engine
    native_speed.warm_up(engine, spec, planned, seed)
    del engine
    sink, tool = nvtx.open_nvtx() if "nvtx" in passes else (None, "not asked for")
    if "nvtx" in passes and sink is None:
        raise ProfileError(f"NVTX: {tool}; this process was to be profiled and is not")
    done, routing = [], None
    for index, name in enumerate(passes):
        progress(index, len(passes), f"pass {name}")
        stem = f"{cell['stem']}-{name}{index}"
        serve = _Pass(backend, spec, planned, seed, RunWriter(folder), stem, is_last=name not in passes[index + 1 :])
        serve.is_eager = is_eager
        done.append({"name": name} | getattr(serve, f"run_{name}")(*([sink] if name == "nvtx" else [])))
        routing = serve.routing or routing
    facts = model_facts.facts(backend, routing, mean_context=mean_context(planned)) if routing else None
    device = backend.model.device.type
    memory = backend._memory_metrics()
    return {"passes": done, "nvtx": tool, "device": device, "facts": facts, "cost": listening_cost(sink), "memory": memory}


def mean_context(planned: list) -> float:
    """Keys and values behind a token of a decode step: a request counts once for each of its tokens."""
    total = sum(request.output_tokens * (len(request.prompt_ids) + request.output_tokens / 2) for request in planned)
    return total / sum(request.output_tokens for request in planned)


def listening_cost(tool: ranges.Sink | None = None) -> dict[str, float]:
    """Nanoseconds that one range costs: off, with a Collector, sent to a tool; the least of several trials, on this machine."""

    def one() -> None:
        with ranges.range("attention", layer=0):
            pass

    off = min(timeit.repeat(one, number=COST_RANGES, repeat=7)) / COST_RANGES
    with ranges.collected():
        on = min(timeit.repeat(one, number=COST_RANGES, repeat=7)) / COST_RANGES
    found = {"off_ns": off * 1e9, "collector_ns": on * 1e9}
    if tool is None:
        return found
    with _on(tool):
        return found | {"nvtx_ns": min(timeit.repeat(one, number=TOOL_RANGES, repeat=7)) / TOOL_RANGES * 1e9}


class _Pass:
    """One pass over the workload."""

    def __init__(
        self, backend, spec: WorkloadSpec, planned: list, seed: int, writer: RunWriter, stem: str, *, is_last: bool
    ) -> None:
        self._backend, self._spec, self._planned, self._seed = backend, spec, planned, seed
        self._writer, self._stem = writer, stem
        self._is_last, self.is_eager = is_last, False
        self.routing: dict | None = None

    def run_off(self) -> dict:
        return self._timed(self._serve()[1])

    def run_ranges(self) -> dict:
        with ranges.collected() as collector:
            recorder, steps, requests = self._serve()
        self.routing = recorder.arrays()
        if not self._is_last:
            return self._timed(steps)
        hit = native_speed.experts_hit_by_step(self.routing, self._backend.model.config.num_experts)
        rows = [_row(ended) for ended in collector.ended]
        writes = {
            "requests": lambda path: tables.write_requests(path, requests),
            "steps": lambda path: tables.write_steps(path, steps, hit),
            "ranges": lambda path: tables.write_rows(path, rows),
        }
        stored = {kind: self._writer.store(f"samples/{self._stem}-{kind}.parquet", write) for kind, write in writes.items()}
        return self._timed(steps) | {"samples": stored}

    def run_nvtx(self, sink: ranges.Sink) -> dict:
        with _on(sink):
            return self._timed(self._serve()[1])

    def run_torch(self) -> dict:
        """The trace of an eager engine; of the replays too where the other passes are made of them."""
        samples = {"trace": self._trace("trace", eager=True)}
        if engine_here(self._backend.model).row.name == "gpu" and not self.is_eager:
            samples["replays"] = self._trace("replays", eager=False)
        return self._timed(self._traced_steps) | {"samples": samples}

    def _trace(self, kind: str, *, eager: bool) -> str:
        planned = cut(self._planned, num_slots(self._spec.arrival))
        spec = self._spec.model_copy(update={"num_requests": len(planned)})
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if self._backend.model.device.type == "cuda":
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        engine, _ = _new_engine(self._backend, spec, self._planned, eager=eager)
        with torch.profiler.profile(activities=kinds) as profiler, _on(ranges.TorchProfiler()):
            _, self._traced_steps = self._run(engine, planned, spec)
        # The suffix stays last: torch compresses by it.
        name = f"samples/{self._stem}-{kind}.json.gz"
        target = self._writer.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(target))
        return name

    def _serve(self):
        engine, recorder = _new_engine(self._backend, self._spec, self._planned, eager=self.is_eager)
        requests, steps = self._run(engine, self._planned, self._spec)
        return recorder, steps, requests

    def _run(self, engine, planned: list, spec: WorkloadSpec):
        with ranges.range("cell"):
            served = native_speed.run_requests(Watched(engine), planned, spec, seed=self._seed, progress=lambda *told: None)
        return served[0], served[1]

    @staticmethod
    def _timed(steps: list) -> dict:
        return {"decode_s": [step.seconds for step in steps if step.phase == "decode"], "samples": {}}


def _new_engine(backend, spec: WorkloadSpec, planned: list, *, eager: bool):
    """(engine, recorder), with the room that the requests take; the one that the backend kept is closed first."""
    recorder = RoutingRecorder(backend.model.config.num_layers)
    slots = min(num_slots(spec.arrival), spec.num_requests)
    context = max(len(request.prompt_ids) + request.output_tokens for request in planned)
    backend.engines.close()
    sizes = {"max_slots": slots, "max_context": context}
    return make_engine(backend.model, **sizes, recorder=recorder, use_graphs=not eager), recorder


def cut(planned: list, count: int) -> list:
    """The first requests, their answers cut."""
    return [replace(request, output_tokens=min(TRACE_OUTPUT_TOKENS, request.output_tokens)) for request in planned[:count]]


def _row(ended: ranges.Ended) -> dict:
    number = ended.payload.get
    return {
        "name": ended.name,
        "start_ns": ended.start_ns,
        "end_ns": ended.end_ns,
        "depth": ended.depth,
        "step": number("step"),
        "layer": number("layer"),
        "tokens": number("tokens"),
        "payload": json.dumps(ended.payload),
    }


@contextmanager
def _on(sink: ranges.Sink):
    with ExitStack() as stack:
        ranges.add(sink)
        stack.callback(ranges.remove, sink)
        yield
