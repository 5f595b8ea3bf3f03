"""One cell of the native backend, passed over several times, each with other listeners on its ranges.

In: a loaded backend, a workload, the passes by name. Out: a result a pass (seconds of each decode step), and, in the folder,
what the listeners saw. `off`: nothing listens. `ranges`: a Collector. `nvtx`: the NVTX tool that started this process. `torch`:
the torch profiler, over a shortened workload, eager where the engine has CUDA graphs, and once more over the graphs' replays.
Every pass serves the same requests in the same order with an engine of its own, the KV cache included.
"""

import inspect
import json
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from fp4moe import nvtx, ranges
from fp4moe.runtime import Engine, RoutingRecorder
from harness.backends import model_facts, native_speed
from harness.backends.watched import Watched
from harness.collect import tables
from harness.errors import ProfileError
from harness.record.write import RunWriter
from harness.scenario.arrival import num_slots
from harness.scenario.schema import WorkloadSpec
from harness.workload.requests import plan_requests

PASSES = ("off", "ranges", "nvtx", "torch")
TRACE_OUTPUT_TOKENS = 6
"""A traced step holds thousands of events; five decode steps say what a kernel takes."""


def profile(backend, *, cell: dict, folder: Path, seed: int, passes: list[str], progress) -> dict:
    """{"passes": [{"name", "decode_s", "samples"}], "nvtx": which tool listened or why none, "device"}."""
    spec = WorkloadSpec.model_validate(cell["workload"])
    text = backend.text()
    tokens = None if text is None else text[0]
    planned = plan_requests(spec, tokens, backend.model.config.vocab_size, seed)
    native_speed._warm_up(backend.model, spec, planned, seed)
    sink, tool = nvtx.open_nvtx() if "nvtx" in passes else (None, "not asked for")
    if "nvtx" in passes and sink is None:
        raise ProfileError(f"NVTX: {tool}; this process was to be profiled and is not")
    done, routing = [], None
    for index, name in enumerate(passes):
        progress(index, len(passes), f"pass {name}")
        serve = _Pass(backend, spec, planned, seed, RunWriter(folder), f"{cell['stem']}-{name}{index}")
        done.append({"name": name} | getattr(serve, f"run_{name}")(*([sink] if name == "nvtx" else [])))
        routing = serve.routing or routing
    facts = model_facts.facts(backend, spec, routing) if routing else None
    return {"passes": done, "nvtx": tool, "device": backend.model.device.type, "facts": facts}


class _Pass:
    """One pass over the workload."""

    def __init__(self, backend, spec: WorkloadSpec, planned: list, seed: int, writer: RunWriter, stem: str) -> None:
        self._backend, self._spec, self._planned, self._seed = backend, spec, planned, seed
        self._writer, self._stem = writer, stem
        self.routing: dict | None = None

    def run_off(self) -> dict:
        return self._timed(self._serve()[1])

    def run_ranges(self) -> dict:
        with ranges.collected() as collector:
            recorder, steps, requests = self._serve()
        num_experts, routing = self._backend.model.config.num_experts, recorder.arrays()
        self.routing = routing
        stored = native_speed._store(self._writer, self._stem, requests, steps, routing, num_experts=num_experts)
        rows = [_row(ended) for ended in collector.ended]
        stored["ranges"] = self._writer.store(
            f"samples/{self._stem}-ranges.parquet", lambda path: tables.write_rows(path, rows)
        )
        return self._timed(steps) | {"samples": stored}

    def run_nvtx(self, sink: ranges.Sink) -> dict:
        with _on(sink):
            return self._timed(self._serve()[1])

    def run_torch(self) -> dict:
        """The trace of an eager engine; of the replays too where the engine has CUDA graphs."""
        samples = {"trace": self._trace("trace", eager=True)}
        if _has_graphs() and self._backend.model.device.type == "cuda":
            samples["replays"] = self._trace("replays", eager=False)
        return self._timed(self._traced_steps) | {"samples": samples}

    def _trace(self, kind: str, *, eager: bool) -> str:
        few = slice(0, num_slots(self._spec.arrival))
        output = min(TRACE_OUTPUT_TOKENS, self._spec.output_tokens)
        spec = self._spec.model_copy(update={"output_tokens": output, "num_requests": len(self._planned[few])})
        planned = [type(request)(**(asdict(request) | {"output_tokens": output})) for request in self._planned[few]]
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if self._backend.model.device.type == "cuda":
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        engine, _ = self._engine(spec, eager=eager)
        with torch.profiler.profile(activities=kinds) as profiler, _on(ranges.TorchProfiler()):
            _, self._traced_steps = self._run(engine, planned, spec)
        # The suffix stays last: torch compresses by it.
        name = f"samples/{self._stem}-{kind}.json.gz"
        target = self._writer.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(target))
        return name

    def _serve(self):
        engine, recorder = self._engine(self._spec, eager=False)
        requests, steps = self._run(engine, self._planned, self._spec)
        return recorder, steps, requests

    def _engine(self, spec: WorkloadSpec, *, eager: bool) -> tuple[Engine, RoutingRecorder]:
        recorder = RoutingRecorder(self._backend.model.config.num_layers)
        options = {"use_graphs": False} if eager and _has_graphs() else {}
        slots = min(num_slots(spec.arrival), spec.num_requests)
        context = self._spec.prompt_tokens + self._spec.output_tokens
        return Engine(self._backend.model, max_slots=slots, max_context=context, recorder=recorder, **options), recorder

    def _run(self, engine: Engine, planned: list, spec: WorkloadSpec):
        with ranges.range("cell"):
            return native_speed.run_requests(Watched(engine), planned, spec, seed=self._seed, progress=lambda *told: None)

    @staticmethod
    def _timed(steps: list) -> dict:
        return {"decode_s": [step.seconds for step in steps if step.phase == "decode"], "samples": {}}


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


def _has_graphs() -> bool:
    """Whether the engine can run with and without CUDA graphs."""
    return "use_graphs" in inspect.signature(Engine).parameters


@contextmanager
def _on(sink: ranges.Sink):
    with ExitStack() as stack:
        ranges.add(sink)
        stack.callback(ranges.remove, sink)
        yield
