"""Measure the cells that share one (model, backend, precision): one worker, loaded once, repeats interleaved.

A worker that ends takes one (cell, repeat) with it: that one is recorded as failed and a fresh worker takes the next.
When loading itself fails twice in a row, what is left of the group is recorded as failed. Input that turns out bad only
now (a checkpoint changed since `prepare` read it) is a failure of the cell too; a full disk ends the run.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from harness.backends.others import find_spec, worker_backend
from harness.errors import ScenarioError, WorkerError
from harness.plan import Cell, largest_need
from harness.run.prepare import Prepared
from harness.run.telemetry import add_telemetry, watched
from harness.worker.client import Worker

MAX_LOAD_FAILURES = 2


@dataclass(frozen=True, slots=True)
class Measurement:
    """What came of one (cell, repeat): a result, or why there is none."""

    cell: Cell
    repeat: int
    loaded: dict | None
    result: dict | None
    failure: WorkerError | None


def interleaved(cells: list[Cell], prepared: Prepared) -> list[tuple[Cell, int]]:
    """Repeat 0 of every cell, then repeat 1 of every cell, and so on."""
    repeats = max(cell.num_repeats(prepared.scenario) for cell in cells)
    return [(c, r) for r in range(repeats) for c in cells if r < c.num_repeats(prepared.scenario)]


def measure_group(
    work: list[tuple[Cell, int]],
    prepared: Prepared,
    folder: str,
    progress: Callable[[Cell, int, float, str], None],
) -> Iterator[Measurement]:
    """Yield a Measurement for each (cell, repeat) of `work`, all of one group, in order."""
    worker, loaded, load_failures = None, None, 0
    try:
        for cell, repeat in work:

            def tell(done: int, total: int, what: str, cell=cell, repeat=repeat) -> None:
                progress(cell, repeat, done / max(total, 1), what)

            try:
                if load_failures >= MAX_LOAD_FAILURES:
                    raise WorkerError("load_failed", f"not tried: loading failed {load_failures} times in a row")
                if worker is None:
                    worker = Worker(worker_backend(prepared.scenario, cell.backend))
                    loaded = _load(worker, cell, prepared, tell)
                    load_failures = 0
                with watched(worker, prepared) as sampler:
                    result = _measure(worker, cell, repeat, prepared, folder, tell)
                stem, closed = sample_stem(cell, repeat), _is_closed(cell)
                add_telemetry(result, sampler.telemetry, prepared, folder=folder, stem=stem, never_waits=closed)
            except (WorkerError, ScenarioError) as error:
                failure = error if isinstance(error, WorkerError) else WorkerError("bad_input", str(error))
                load_failures += loaded is None
                if worker is not None:
                    worker.close(grace_s=0.0)
                worker, loaded = None, None
                yield Measurement(cell, repeat, None, None, failure)
            else:
                yield Measurement(cell, repeat, loaded, result, None)
    except BaseException:  # Ctrl-C, or a record that could not be stored: do not wait for the worker
        if worker is not None:
            worker.close(grace_s=0.0)
        raise
    if worker is not None:
        worker.close()


def _load(worker: Worker, cell: Cell, prepared: Prepared, tell) -> dict:
    timeout_s = prepared.scenario.limits.load_timeout_s
    return worker.ask("load", timeout_s=timeout_s, progress=tell, **load_arguments(cell, prepared))


def load_arguments(cell: Cell, prepared: Prepared) -> dict:
    """What a backend's `load` is told for a cell's group."""
    scenario = prepared.scenario
    return {
        "source": asdict(prepared.sources[cell.model]),
        "precision": asdict(cell.precision),
        "torch_device": prepared.device.torch_device,
        "seed": scenario.seed,
        "cpu_threads": scenario.cpu_threads,
        "allow_reference": scenario.kernels.allow_reference,
        "implementation": scenario.kernels.implementation,
        **_more_for_others(cell, prepared),
    }


def _more_for_others(cell: Cell, prepared: Prepared) -> dict:
    """What a backend is told that is not the native one in process: its own spec, and the sizes to start an engine with."""
    spec = find_spec(prepared.scenario, cell.backend)
    if spec is None or (spec.kind == "native" and not spec.is_served):
        return {}
    slots, context = largest_need(prepared.scenario)
    return {
        "backend": spec.model_dump(mode="json"),
        "sizes": {
            "slots": slots,
            "context": context,
            "seed": prepared.scenario.seed,
            "cpu_threads": prepared.scenario.cpu_threads,
            "load_timeout_s": prepared.scenario.limits.load_timeout_s,
            "cell_timeout_s": prepared.scenario.limits.cell_timeout_s,
        },
        "first_kind": "heldout" if cell.is_quality else "requests",
    }


def _measure(worker: Worker, cell: Cell, repeat: int, prepared: Prepared, folder: str, tell) -> dict:
    return worker.ask(
        "measure",
        timeout_s=prepared.scenario.limits.cell_timeout_s,
        progress=tell,
        cell={
            "kind": "heldout" if cell.is_quality else "requests",
            "model": cell.model,
            "workload": cell.workload.model_dump(mode="json"),
            "is_baseline": cell.precision.is_baseline,
            "stem": sample_stem(cell, repeat),
        },
        folder=folder,
        seed=prepared.scenario.seed,
    )


def _is_closed(cell: Cell) -> bool:
    return not cell.is_quality and cell.workload.arrival.kind == "closed"


def sample_stem(cell: Cell, repeat: int) -> str:
    """How the sample files of a (cell, repeat) begin, below samples/."""
    return f"{cell.model}-{cell.backend}-{cell.precision.id}-{cell.workload_name}-r{repeat}"
