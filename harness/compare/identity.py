"""Whether two measured cells are the same question asked twice: scenario hash and weights hash.

In: two cells. Out: the identity of each, and in words what differs. A cell's scenario hash covers what it measures (model,
backend, precision, workload, seed), not the scenario around it: its repeats, its other cells and its description may differ.
"""

import hashlib
import json
from dataclasses import dataclass

from harness.report.cells import MeasuredCell

IGNORED = ("target",)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a cell asks, as data and as a hash, and the hash of the weights that answered."""

    question: dict
    weights_sha256: str | None

    @property
    def scenario_sha256(self) -> str:
        text = json.dumps(self.question, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def identity_of(cell: MeasuredCell) -> Identity:
    """Identity of a cell, from its records and its run's scenario."""
    first = cell.first
    workload = {key: value for key, value in first["workload"].items() if value is not None}
    scenario = cell.run.info.get("scenario") or {}
    question = {
        "model": cell.model,
        "backend": cell.backend,
        "precision": cell.precision.get("id"),
        "workload": workload,
        "seed": scenario.get("seed", 0),
    }
    digests = {(record.get("weights") or {}).get("sha256") for record in cell.records} - {None}
    return Identity(question, "+".join(sorted(digests)) or None)


def join_key(cell: MeasuredCell) -> tuple[str, str, str, str]:
    """Cells of two runs with the same key ask about the same thing; `differences` tells whether in the same words."""
    return cell.model, cell.backend, str(cell.precision.get("id")), cell.workload


def differences(a: MeasuredCell, b: MeasuredCell) -> list[str]:
    """In words, what makes b another question than a; empty when the two can be compared."""
    one, two = identity_of(a), identity_of(b)
    found = differing(one.question, two.question, a.run.run_id, b.run.run_id)
    if one.weights_sha256 and two.weights_sha256 and one.weights_sha256 != two.weights_sha256:
        found.append(f"the weights are other ones ({one.weights_sha256[:12]} and {two.weights_sha256[:12]})")
    return found


def differing(a: dict, b: dict, name_a: str, name_b: str) -> list[str]:
    """In words, every key of both whose value is not the same."""
    return [
        f"{path} is {_show(x)} in {name_a} and {_show(y)} in {name_b}"
        for path, x, y in _leaves(a, b)
        if x is not _ABSENT and y is not _ABSENT
    ]


_ABSENT = object()


def _leaves(a: object, b: object, path: str = "") -> list[tuple[str, object, object]]:
    """(path, a's value, b's value) of everything that differs; a key that one side's version does not know is absent."""
    if isinstance(a, dict) and isinstance(b, dict):
        names = dict.fromkeys([*a, *b])
        return [
            leaf
            for name in names
            for leaf in _leaves(a.get(name, _ABSENT), b.get(name, _ABSENT), f"{path}.{name}" if path else name)
        ]
    return [] if a == b else [(path, a, b)]


def _show(value: object) -> str:
    return json.dumps(value)
