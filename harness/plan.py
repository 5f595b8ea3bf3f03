"""The plan: Scenario x Device -> cells to run, and every cell dropped with the reason.

Pure: no file is read and nothing is written. What a backend knows of a (model, precision) on this device (memory it
will need, implementation of each operation) comes in as `Facts`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.device import Device
from harness.errors import ScenarioError
from harness.models import GPU_ONLY_PARAMETERS, ModelSource
from harness.precisions import METHODS, Precision
from harness.scenario.arrival import num_slots
from harness.scenario.backends import serves
from harness.scenario.schema import HELDOUT, ModelSpec, PrecisionSpec, QualitySpec, Scenario, WorkloadSpec
from harness.workload.bounds import bounds_of

MEMORY_HEADROOM = 0.95
"""Share of the device's free memory that a plan may fill."""
GIVEN_UP = "allocator_slack"
"""A cause that needs no room: the allocator holds it where there is some, and gives it up before it fails."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a backend says of a (model, precision) on a device before loading it."""

    memory_bytes: Mapping[str, int]
    """By cause, the largest workload's KV cache included."""
    choices: tuple[dict, ...]
    """One an operation, see harness.backends.selection.choice_row."""
    problem: str | None = None
    """Why the pair cannot run (no implementation), None when it can."""
    peer: dict | None = None
    """What vLLM would take here, by its rules: {"engine", "chosen", "computes", "refused"}; not run."""
    is_elsewhere: bool = False
    """Whether it runs on a machine that is not looked at here, behind a URL."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure: (model, backend, precision, workload, target)."""

    model: str
    backend: str
    precision: Precision
    workload: WorkloadSpec | QualitySpec
    target: str

    @property
    def is_quality(self) -> bool:
        return isinstance(self.workload, QualitySpec)

    @property
    def workload_name(self) -> str:
        return HELDOUT if self.is_quality else self.workload.name

    @property
    def group(self) -> tuple[str, str, str]:
        """Cells of one group are served by one worker process."""
        return (self.model, self.backend, self.precision.id)

    @property
    def cell_id(self) -> str:
        return "/".join([*self.group, self.workload_name, self.target])

    def num_repeats(self, scenario: Scenario) -> int:
        """Quality is deterministic and measured once; speed is repeated."""
        return 1 if self.is_quality else scenario.repeats


@dataclass(frozen=True, slots=True)
class Dropped:
    """A cell that will not run, and why."""

    cell: Cell
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What will run, in order, and what will not."""

    cells: tuple[Cell, ...]
    dropped: tuple[Dropped, ...]


def resolve_precision(spec: PrecisionSpec) -> Precision:
    """Fill in the format's default method."""
    return Precision(spec.weights, spec.method or METHODS[spec.weights][0], spec.activations)


def all_precisions(scenario: Scenario) -> list[Precision]:
    """The scenario's precisions without repeats, BF16 first: the others are held against it."""
    unique = list(dict.fromkeys(resolve_precision(spec) for spec in scenario.precisions))
    return sorted(unique, key=lambda precision: not precision.is_baseline)


def make_plan(
    scenario: Scenario,
    device: Device,
    sources: Mapping[str, ModelSource],
    facts: Mapping[tuple[str, str], Facts],
    backend_facts: Mapping[tuple[str, str, str], Facts] | None = None,
) -> Plan:
    """Cells to run and cells dropped.

    `facts` is the native backend's, keyed by (model, precision id); `backend_facts` what others say, by (backend, model,
    precision id). The native backend comes first: others are held against it.
    """
    cells, dropped = [], []
    for model in scenario.models:
        for backend in sorted(scenario.backends, key=lambda backend: backend.kind != "native" or backend.is_served):
            for precision in all_precisions(scenario):
                if not serves(backend, model.name, precision.id):
                    continue
                key = (backend.name, model.name, precision.id)
                known = (backend_facts or {}).get(key) or facts[(model.name, precision.id)]
                for target in model.targets or scenario.targets:
                    for cell in _cells_of(scenario, model, backend.name, precision, target, device):
                        reason = _reason_to_drop(cell, target, device, sources[model.name], known)
                        dropped.append(Dropped(cell, reason)) if reason else cells.append(cell)
    unique = {cell.cell_id: cell for cell in cells}
    return Plan(tuple(unique.values()), tuple(dropped))


def _cells_of(scenario, model: ModelSpec, backend: str, precision: Precision, target: str, device: Device):
    slug = device.slug if target == "any" else target.lower().replace(" ", "-")
    workloads = [scenario.quality] if scenario.quality else []
    return [Cell(model.name, backend, precision, workload, slug) for workload in [*workloads, *scenario.workloads]]


def _reason_to_drop(cell: Cell, target: str, device: Device, source: ModelSource, known: Facts) -> str | None:
    if target not in ("any", device.kind):
        return f"needs {target}; this machine has {device.name}. Run it there and merge with `harness report`"
    if known.is_elsewhere:
        return _quality_reason(cell, source) or _routing_reason(cell, device, source, known) or known.problem
    if not device.is_gpu and source.num_parameters > GPU_ONLY_PARAMETERS:
        size = f"{sum(known.memory_bytes.values()) / 1e9:.1f} GB free"
        return f"{source.num_parameters / 1e9:.1f} B parameters need a GPU with {size}; this machine has no GPU"
    reason = _quality_reason(cell, source) or _routing_reason(cell, device, source, known)
    return reason or known.problem or _memory_problem(known, device)


def _quality_reason(cell: Cell, source: ModelSource) -> str | None:
    if cell.is_quality and source.weights == "random":
        return "random weights have no perplexity; give a checkpoint by `path` to measure quality"
    return None


def _routing_reason(cell: Cell, device: Device, source: ModelSource, known: Facts) -> str | None:
    if cell.is_quality or cell.workload.routing is None:
        return None
    if known.is_elsewhere:
        return f"routing is imposed by our own engine only; {cell.backend} has none"
    if source.weights != "random":
        return "routing is imposed on random weights only; trained ones keep their own. Set `weights: random`"
    return None if device.is_gpu else "imposed routing needs the GPU engine; this machine has no GPU"


def _memory_problem(known: Facts, device: Device) -> str | None:
    causes = {name: size for name, size in known.memory_bytes.items() if name != GIVEN_UP}
    needed, room = sum(causes.values()), device.free_bytes * MEMORY_HEADROOM
    if needed <= room:
        return None
    parts = sorted(causes.items(), key=lambda item: -item[1])[:3]
    largest = ", ".join(f"{name.replace('_', ' ')} {size / 1e9:.1f}" for name, size in parts)
    found = f"needs {needed / 1e9:.1f} GB ({largest}); {device.name} has {device.free_bytes / 1e9:.1f} GB free"
    return f"{found}. {_what_would_fit(known, needed - room)}"


def _what_would_fit(known: Facts, excess_bytes: float) -> str:
    """By how much the cache must shrink, or that no cache is small enough."""
    cache = known.memory_bytes.get("kv_cache", 0)
    if cache > excess_bytes:
        share = int(100 * (cache - excess_bytes) / cache)
        return f"It fits with {share} % of the KV cache: that share of the concurrency, or of prompt plus output tokens"
    return "It does not fit without any KV cache; choose a precision with fewer bits or a larger GPU"


def check_lengths(scenario: Scenario, sources: Mapping[str, ModelSource]) -> None:
    """Raise ScenarioError when a workload or a quality window cannot fit a model's context."""
    problems = []
    for model in scenario.models:
        limit = sources[model.name].max_positions
        for index, workload in enumerate(scenario.workloads):
            needed = bounds_of(workload).max_context
            if needed > limit:
                problems.append(
                    f"{scenario.place('workloads', index)}: prompt_tokens + output_tokens = {needed} is more than "
                    f"{model.name}'s context of {limit} tokens"
                )
        if scenario.quality and scenario.quality.window_tokens + 1 > limit:
            problems.append(
                f"{scenario.place('quality', 'window_tokens')}: must be at most {limit - 1} for {model.name} "
                f"(got {scenario.quality.window_tokens})"
            )
    if problems:
        raise ScenarioError(problems)


def largest_context(scenario: Scenario) -> tuple[int, int]:
    """(slots, context tokens) of the largest KV cache that the scenario's workloads need; (0, 0) without workloads."""
    sizes = [(num_slots(w.arrival), bounds_of(w).max_context) for w in scenario.workloads]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def largest_need(scenario: Scenario) -> tuple[int, int]:
    """(slots, context tokens) that every cell fits in: the workloads', and a window of the held-out text."""
    slots = max((num_slots(w.arrival) for w in scenario.workloads), default=1)
    context = max((bounds_of(w).max_context for w in scenario.workloads), default=2)
    return slots, max(context, scenario.quality.window_tokens + 1 if scenario.quality else 0)
