"""Cells that another client measured (`harness import`): which cell of ours asks for the same load, and what may be judged.

In: measured cells. Out: the counterpart, or in words why there is none; reasons by metric that must not be judged; a note. Such
a cell has a backend and a workload name of its own, so model, formats, lengths, number of requests and arrivals decide.
"""

from collections.abc import Sequence

from harness.compare.identity import differing
from harness.metrics import METRICS
from harness.report.cells import MeasuredCell

_LOAD = ("prompt_tokens", "output_tokens", "num_requests", "arrival")
_NOT_LOAD = ("max_slots",)
"""Slots of our own runtime, which other clients know nothing of."""
_SHOWN = (*(f"*_{family}_ms" for family in ("ttft", "tpot", "itl", "e2el")),)
_RATES = ("request_throughput", "output_throughput", "total_token_throughput")


def client_of(cell: MeasuredCell) -> str:
    """`aiperf 0.13.0`, or `harness`."""
    imported = cell.first.get("imported")
    if imported is None:
        return "harness"
    return f"{imported['tool']} {imported['tool_version'] or '(version not in its file)'}"


def is_imported(cell: MeasuredCell) -> bool:
    """Whether another client measured it."""
    return cell.first.get("imported") is not None


def counterpart(cell: MeasuredCell, others: Sequence[MeasuredCell]) -> tuple[MeasuredCell | None, list[str]]:
    """The cell of the same load, or None with what is nearest and how it differs."""
    timed = [other for other in others if not other.is_heldout]
    if cell.is_heldout or not timed:
        return None, ["there is no cell of requests to set it beside"]
    unlike = {index: load_differences(other, cell) for index, other in enumerate(timed)}
    nearest = min(unlike, key=lambda index: len(unlike[index]))
    if not unlike[nearest]:
        return timed[nearest], []
    found = [f"nothing of the same load; nearest is {timed[nearest].cell_id}", *unlike[nearest]]
    if "unknown" in (cell.weights, cell.precision["activations"]):
        found.append("its file does not name the formats: import it with --weights and --activations")
    return None, found


def load_differences(a: MeasuredCell, b: MeasuredCell) -> list[str]:
    """In words, what makes b another load than a."""
    return differing(_load(a), _load(b), a.run.run_id, b.run.run_id)


def _load(cell: MeasuredCell) -> dict:
    workload = {name: cell.first["workload"].get(name) for name in _LOAD}
    arrival = {key: value for key, value in (workload["arrival"] or {}).items() if value is not None and key not in _NOT_LOAD}
    formats = {"weights": cell.weights, "activations": cell.precision["activations"]}
    return {"model": cell.model, **formats, "workload": workload | {"arrival": arrival}}


def refusals(a: MeasuredCell, b: MeasuredCell) -> dict[str, str]:
    """Why a metric must not be judged, by metric; two cells of one client have its definitions in common."""
    if client_of(a) == client_of(b):
        return {}
    sides = [(record.get("imported") or {}).get("not_comparable") or {} for cell in (b, a) for record in cell.records]
    return {name: reason for side in sides for name, reason in side.items()}


def note_on(a: MeasuredCell, b: MeasuredCell) -> list[str]:
    """What may be compared and what not, where the clients differ."""
    if client_of(a) == client_of(b):
        return []
    refused = refusals(a, b)
    names = (*_RATES, *_SHOWN)
    kept = [name for name in names if name.replace("*", "median") in METRICS and name.replace("*", "median") not in refused]
    notes = [f"measured by {client_of(a)} and {client_of(b)}; comparable: {', '.join(kept) or 'nothing'}"]
    reasons = {name: refused[name.replace("*", "median")] for name in names if name.replace("*", "median") in refused}
    for reason in dict.fromkeys(reasons.values()):
        notes.append(f"not comparable: {', '.join(name for name in reasons if reasons[name] == reason)}: {reason}")
    return notes
