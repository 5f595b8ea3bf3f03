"""The first screen: what FP4 cost and what it bought, computed from the records.

In: variants. Out: one Answer a quantized variant, and the lead sentences: one for the targets of a model on
which memory and quality came out the same, with the speed of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.facts import Fact, memory_fact, quality_fact, speed_fact
from harness.report.variants import Variant, baseline_of


@dataclass(frozen=True, slots=True)
class Answer:
    """What one quantized variant bought and cost beside BF16 on the same target."""

    variant: Variant
    memory: Fact
    quality: Fact
    speed: Fact
    backend: str
    """Whose it is, where the report has several; else empty."""

    @property
    def core(self) -> str:
        """Memory and quality as a sentence."""
        head = self.variant.head
        text = f"{head.name} ({head.method}) {self.memory.words} and {self.quality.words}."
        if self.invalid:
            text += f" The verdict on {' and '.join(self.invalid)} is INVALID: do not rely on it."
        return text

    @property
    def invalid(self) -> tuple[str, ...]:
        """Workloads whose cell is INVALID."""
        return tuple(cell.workload for cell in self.variant.cells if cell.state == "INVALID")

    @property
    def is_measured(self) -> bool:
        return any(cell.records for cell in self.variant.cells)


def answers(everyone: Sequence[Variant]) -> tuple[Answer, ...]:
    """One Answer a quantized variant: FP4 first, then by perplexity change, within each target and model."""
    are_several = len({variant.head.backend for variant in everyone}) > 1
    found = [_answer(variant, everyone, are_several) for variant in everyone if not variant.is_baseline]
    groups = list(dict.fromkeys(variant.group for variant in everyone))
    return tuple(sorted(found, key=lambda answer: (groups.index(answer.variant.group), *_rank(answer))))


def _answer(variant: Variant, everyone: Sequence[Variant], are_several: bool) -> Answer:
    baseline = baseline_of(variant, everyone)
    facts = memory_fact(variant, baseline), quality_fact(variant), speed_fact(variant, baseline)
    return Answer(variant, *facts, backend=variant.head.backend if are_several else "")


def _rank(answer: Answer) -> tuple[bool, bool, float]:
    change = answer.variant.quality("perplexity_change_pct").median
    cost = float("inf") if change is None else change
    return not answer.is_measured, not answer.variant.is_fp4, cost


def leads(everyone: Sequence[Variant], found: Sequence[Answer]) -> tuple[str, ...]:
    """The sentences that open the report."""
    cells = [cell for variant in everyone for cell in variant.cells]
    if not cells:
        return ("No cell has a record: nothing was measured.",)
    if not any(cell.records for cell in cells):
        who = "the only cell" if len(cells) == 1 else f"all {len(cells)} cells"
        return (f"Nothing was measured: {who} failed. The first error is {cells[0].error}",)
    groups = list(dict.fromkeys(variant.group for variant in everyone))
    alike: dict[tuple, list[Answer]] = {}
    answered = {a.variant.group[:2] for a in found if a.is_measured}  # by whichever backend
    sentences: dict[str, None] = {}
    for group in groups:
        best = next((a for a in found if a.variant.group == group and a.is_measured), None)
        if best is not None:
            alike.setdefault((group[1:], best.core), []).append(best)
        elif group[:2] not in answered:
            sentences[f"On {group[0]} only BF16 was measured on {group[1]}: there is no FP4 to set beside it."] = None
    where = "this machine" if len(groups) == 1 else ""
    return (*(_lead(members, where) for members in alike.values()), *sentences)


def _lead(alike: list[Answer], where: str) -> str:
    first = alike[0]
    prefix = ""
    if not first.variant.is_fp4:
        prefix = f"No FP4 precision was measured here; {first.variant.head.name} is shown instead. "
    if where:
        start = f"On {where} ({first.variant.head.target}, {_inside(first.variant)})"
    else:
        start = f"On {_places([answer.variant for answer in alike])},"
    if len(alike) == 1:
        return f"{prefix}{start} {first.core} {first.speed.words}"
    speeds = " ".join(f"{answer.variant.head.target}: {_lower_first(answer.speed.words)}" for answer in alike)
    return f"{prefix}{start} {first.core} {speeds}"


def _places(members: list[Variant]) -> str:
    """'A100, H100 and RTX 5090 (GPU, triton-upcast)'; what differs stands after each target."""
    insides = [_inside(variant) for variant in members]
    names = [variant.head.target for variant in members]
    if len(set(insides)) > 1:
        names = [f"{name} ({inside})" for name, inside in zip(names, insides, strict=True)]
    text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return text if len(set(insides)) > 1 else f"{text} ({insides[0]})"


def _inside(variant: Variant) -> str:
    """'GPU, triton-upcast'; of an imported run 'measured by aiperf 0.13.0', which is all that its file says."""
    cell = next((cell for cell in variant.cells if cell.records), variant.head)
    imported = cell.first.get("imported")
    if imported is not None:
        return " ".join(filter(None, ("measured by", imported["tool"], imported["tool_version"])))
    kind = "CPU" if cell.target_kind == "cpu" else "GPU"
    return f"{kind}, {'reference implementation' if cell.is_reference else cell.implementation}"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
