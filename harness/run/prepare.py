"""Everything that is settled before the first measurement, without writing anything.

Scenario -> checkpoints found and checked -> facts from the backend (memory, kernels) -> plan, filtered by `--only`.
Whatever is wrong with the scenario or a checkpoint is raised from here as ScenarioError.
"""

import fnmatch
from dataclasses import asdict, dataclass, field

from harness import plan as planning
from harness.backends.others import other_facts
from harness.device import Device
from harness.errors import ScenarioError, UsageError
from harness.kernel_bench.routing import check_fits, parse_routing
from harness.models import ModelSource, resolve
from harness.plan import Cell, Facts, Plan, all_precisions, largest_context
from harness.scenario.schema import Scenario
from harness.worker.client import Worker

MIN_FACTS_TIMEOUT_S = 60.0
"""Starting a worker imports torch, however small the limits of the scenario are."""
FILTER_KEYS = ("model", "backend", "precision", "workload", "target")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan and what it was made from."""

    scenario: Scenario
    device: Device
    sources: dict[str, ModelSource]
    facts: dict[tuple[str, str], Facts]
    """Of the native backend, by (model, precision id)."""
    plan: Plan
    backend_facts: dict[tuple[str, str, str], Facts] = field(default_factory=dict)
    """Of the other backends, by (backend, model, precision id)."""

    def facts_of(self, cell: Cell) -> Facts:
        """What the cell's backend says of its model and precision."""
        own = self.backend_facts.get((cell.backend, cell.model, cell.precision.id))
        return own or self.facts[(cell.model, cell.precision.id)]


def prepare(scenario: Scenario, device: Device, *, only: str | None = None) -> Prepared:
    """Make the plan; raises ScenarioError for a bad checkpoint, UsageError for a filter that fits nothing."""
    wanted = None if only is None else _parse_filter(only)
    sources = {model.name: resolve(model, scenario.place("models", index)) for index, model in enumerate(scenario.models)}
    planning.check_lengths(scenario, sources)
    _check_routing(scenario, sources)
    facts = _ask_facts(scenario, device, sources)
    others = _other_facts(scenario, device, sources, facts)
    plan = planning.make_plan(scenario, device, sources, facts, others)
    plan = plan if wanted is None else _filtered(plan, wanted, only)
    return Prepared(scenario, device, sources, facts, plan, others)


def _other_facts(scenario: Scenario, device: Device, sources, facts) -> dict[tuple[str, str, str], Facts]:
    """What backends beside the native one say, without starting them."""
    return {
        (backend.name, name, precision.id): other_facts(backend, source, precision, device, facts[(name, precision.id)])
        for backend in scenario.backends
        if backend.kind != "native" or backend.is_served
        for name, source in sources.items()
        for precision in all_precisions(scenario)
    }


def _check_routing(scenario: Scenario, sources: dict[str, ModelSource]) -> None:
    """Raise ScenarioError where a workload's `routing` is none, cannot be read, or does not fit a model's layers."""
    for index, workload in enumerate(scenario.workloads):
        if workload.routing is None:
            continue
        try:
            routing = parse_routing(workload.routing)
            for source in (source for source in sources.values() if source.weights == "random"):
                check_fits(routing, source.config["num_local_experts"], source.config["num_experts_per_tok"])
        except UsageError as error:
            place = scenario.place("workloads", index, "routing")
            raise ScenarioError([f"{place}: {str(error).removeprefix('--routing').lstrip(': ')}"]) from None


def _ask_facts(scenario: Scenario, device: Device, sources) -> dict[tuple[str, str], Facts]:
    precisions, facts = all_precisions(scenario), {}
    with Worker("native") as worker:
        for index, (name, source) in enumerate(sources.items()):
            try:
                rows = _ask_model(worker, scenario, device, source)
            except ScenarioError as error:
                place = scenario.place("models", index)
                raise ScenarioError([f"{place}: {problem}" for problem in error.problems]) from None
            for precision, row in zip(precisions, rows, strict=True):
                choices = tuple(row["choices"])
                facts[(name, precision.id)] = Facts(row["memory_bytes"], choices, row["problem"], row["peer"])
    return facts


def _ask_model(worker: Worker, scenario: Scenario, device: Device, source: ModelSource) -> list[dict]:
    slots, context = largest_context(scenario)
    return worker.ask(
        "facts",
        timeout_s=max(scenario.limits.load_timeout_s, MIN_FACTS_TIMEOUT_S),
        source=asdict(source),
        precisions=[asdict(precision) for precision in all_precisions(scenario)],
        capability=device.capability,
        gpu=device.name if device.is_gpu else None,
        is_attached=device.is_attached,
        slots=slots,
        context=context,
        window_tokens=scenario.quality.window_tokens if scenario.quality else None,
        allow_reference=scenario.kernels.allow_reference,
        implementation=scenario.kernels.implementation,
    )


def _filtered(plan: Plan, wanted: dict[str, str], only: str) -> Plan:
    cells = tuple(cell for cell in plan.cells if _matches(cell, wanted))
    if cells:
        return Plan(cells, plan.dropped)
    dropped = tuple(item for item in plan.dropped if _matches(item.cell, wanted))
    if not dropped:
        everyone = [*plan.cells, *(item.cell for item in plan.dropped)]
        known = {key: dict.fromkeys(_values(cell)[key] for cell in everyone) for key in wanted}
        shown = "\n".join(f"  {key}: {', '.join(names)}" for key, names in known.items())
        raise UsageError(f"--only {only!r}: fits no cell of the scenario, which has\n{shown}")
    return Plan((), dropped)  # all that fits was dropped: the reasons say why


def _parse_filter(only: str) -> dict[str, str]:
    wanted = {}
    for part in only.split(","):
        key, equals, pattern = part.partition("=")
        if not equals or key.strip() not in FILTER_KEYS:
            raise UsageError(
                f"--only {only!r}: must be key=pattern[,key=pattern] with keys {', '.join(FILTER_KEYS)}; "
                "for example --only 'precision=nvfp4*,workload=single'"
            )
        wanted[key.strip()] = pattern.strip()
    return wanted


def _matches(cell: Cell, wanted: dict[str, str]) -> bool:
    values = _values(cell)
    return all(fnmatch.fnmatch(values[key], pattern) for key, pattern in wanted.items())


def _values(cell: Cell) -> dict[str, str]:
    return {
        "model": cell.model,
        "backend": cell.backend,
        "precision": cell.precision.id,
        "workload": cell.workload_name,
        "target": cell.target,
    }
