"""A check of a claim as text: `throughput >= 1850 tokens/s on RTX 5090 with nvfp4 batch 32`.

In: text. Out: Check: two terms and how they compare, or ScenarioError saying what is wrong and what is allowed.

    check  = term  relation  term
    term   = number [unit]  |  quantity [qualifiers]
    relation: >= <= > < = ~       = within 5 %, ~ within 20 %
    qualifiers, in any order: on GPU, with PRECISION, kernel NAME, batch N, prompt N, output N, experts N N N ...
Quantities: see QUANTITIES. Parses only; what a quantity is worth is evidence.py's.
"""

import difflib
import math
import re
from dataclasses import dataclass, field

from harness.device import gpu_table
from harness.errors import ScenarioError
from harness.project.memory import BITS

QUANTITIES = {
    "throughput": ("tokens/s", "output tokens/s of a batch sent at once, prefill included"),
    "decode throughput": ("tokens/s", "tokens/s of the decode steps alone"),
    "ttft": ("ms", "time to first token of one request, unloaded"),
    "tpot": ("ms", "time per output token after the first"),
    "memory": ("GB", "weights, activations and the KV cache of one sequence"),
    "weights": ("GB", "weights alone"),
    "models that fit": ("", "copies of the model that fit on the GPU, each with one sequence"),
    "compression": ("x", "bytes of all weights in BF16 over those in the precision"),
    "expert compression": ("x", "the same for the experts alone"),
    "perplexity change": ("%", "against BF16, measured on pocket-mixtral"),
    "speedup": ("x", "decode throughput over BF16's on the same engine and GPU"),
    "layer time": ("us", "one MoE layer of the kernel"),
    "layer over limit": ("x", "layer time over the roofline limit of its own run"),
    "hot share": ("%", "share of the slots that the two hottest experts take: measured router, or `experts` counts"),
    "gpu.bandwidth": ("TB/s", "data sheet"),
    "gpu.memory": ("GB", "data sheet"),
    "gpu.memory_kind": ("", "data sheet, as HBM3"),
    "gpu.fp4_tflops": ("TFLOP/s", "data sheet; 0 where there is no FP4 unit"),
}
"""Quantity -> (unit, meaning)."""
ALIASES = {
    "output_throughput": "throughput", "decode_throughput": "decode throughput", "median_ttft_ms": "ttft",
    "time to first token": "ttft", "median_tpot_ms": "tpot", "weight_bytes": "weights",
    "perplexity_change_pct": "perplexity change", "perplexity increase": "perplexity change",
}  # fmt: skip
RELATIONS = (">=", "<=", ">", "<", "=", "~")
NEAR = {"=": 0.05, "~": 0.20}
"""Relation -> relative difference that still counts as equal."""
TO_UNIT = {
    ("GB", "MB"): 1e-3, ("TB/s", "GB/s"): 1e-3, ("ms", "s"): 1e3, ("ms", "us"): 1e-3, ("us", "ms"): 1e3, ("GB", "TB"): 1e3,
}  # fmt: skip
UNITS = tuple(dict.fromkeys([unit for unit, _ in QUANTITIES.values() if unit] + [given for _, given in TO_UNIT]))
_QUALIFIER = re.compile(r"\b(on|with|kernel|batch|prompt|output|experts)\b")
_NUMBER = re.compile(r"^([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S+)?$")


@dataclass(frozen=True, slots=True)
class Term:
    """One side of a check: a number, or a quantity with its qualifiers."""

    quantity: str | None
    number: float | None = None
    unit: str = ""
    text: str | None = None
    qualifiers: dict[str, str] = field(default_factory=dict)

    @property
    def is_constant(self) -> bool:
        return self.quantity is None


@dataclass(frozen=True, slots=True)
class Check:
    """`left relation right`, and the text that it was read from."""

    source: str
    left: Term
    relation: str
    right: Term


def parse_check(text: str, place: str = "claims") -> Check:
    """ScenarioError naming `place`, the rule, the value and what is allowed."""
    parts = re.split(r"(>=|<=|>|<|=|~)", text, maxsplit=1)
    if len(parts) != 3:
        raise _wrong(place, text, f"needs one of {' '.join(RELATIONS)}, as in 'throughput >= 1850 tokens/s on RTX 5090'")
    left, right = _term(parts[0], text, place), _term(parts[2], text, place)
    left, right = _shared(left, right, text, place)
    if left.is_constant and right.is_constant and left.unit != right.unit:
        raise _wrong(place, text, f"compares {left.unit or 'a number'} with {right.unit or 'a number'}; give one unit")
    return Check(" ".join(text.split()), left, parts[1], right)


def _shared(left: Term, right: Term, text: str, place: str) -> tuple[Term, Term]:
    """A number takes the unit of the quantity that it is held against."""
    if left.is_constant or not right.is_constant:
        return left, right
    wanted = QUANTITIES[left.quantity][0]
    qualifiers = left.qualifiers | right.qualifiers
    moved = Term(left.quantity, qualifiers=qualifiers)
    if right.text is not None:
        return moved, right
    if right.unit in ("", wanted):
        return moved, Term(None, right.number, wanted)
    factor = TO_UNIT.get((wanted, right.unit))
    if factor is None:
        raise _wrong(place, text, f"{left.quantity} is in {wanted or 'no unit'} (got {right.unit})")
    return moved, Term(None, right.number * factor, wanted)


def _term(text: str, whole: str, place: str) -> Term:
    head, *rest = _QUALIFIER.split(text.strip())
    qualifiers = _qualifiers(rest, whole, place)
    head = head.strip()
    number = _NUMBER.match(head)
    if number:
        return _constant(number, qualifiers, whole, place)
    name = ALIASES.get(head.lower(), head.lower())
    if name in QUANTITIES:
        return Term(name, qualifiers=qualifiers)
    if re.fullmatch(r"[A-Z]+\d[A-Za-z0-9]*", head):
        return Term(None, text=head, qualifiers=qualifiers)
    near = difflib.get_close_matches(name, [*QUANTITIES, *ALIASES], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise _wrong(place, whole, f"unknown metric {head!r} (allowed: {', '.join(QUANTITIES)}){hint}")


def _constant(found: re.Match, qualifiers: dict, whole: str, place: str) -> Term:
    value, unit = float(found[1].replace("_", "")), found[2] or ""
    if not math.isfinite(value):
        raise _wrong(place, whole, f"must be a finite number (got {found[1]!r})")
    if unit and unit not in UNITS:
        raise _wrong(place, whole, f"unknown unit {unit!r} (allowed: {', '.join(UNITS)})")
    return Term(None, value, unit, qualifiers=qualifiers)


def _qualifiers(rest: list[str], whole: str, place: str) -> dict[str, str]:
    found = {}
    for key, value in zip(rest[::2], rest[1::2], strict=True):
        value = value.strip()
        if key in found or not value:
            raise _wrong(place, whole, f"{key!r} must stand once, with a value")
        found[key] = _checked(key, value, whole, place)
    return found


def _checked(key: str, value: str, whole: str, place: str) -> str:
    if key in ("batch", "prompt", "output") and not (value.isdigit() and int(value) > 0):
        raise _wrong(place, whole, f"{key} must be a whole number above 0 (got {value!r})")
    if key == "experts" and not re.fullmatch(r"\d+(\s+\d+)+", value):
        raise _wrong(place, whole, f"experts must be counts, as 'experts 120 95 10' (got {value!r})")
    if key == "on":
        known = {name.lower(): name for name in gpu_table()}
        if value.lower() not in known:
            raise _wrong(place, whole, f"not a known GPU: {value!r} (allowed: {', '.join(gpu_table())})")
        return known[value.lower()]
    if key == "with" and value.split("-")[0].lower() not in BITS:
        raise _wrong(place, whole, f"unknown precision {value!r} (allowed: {', '.join(BITS)}, or an id as nvfp4-search-a16)")
    return value.lower() if key == "with" else value


def _wrong(place: str, text: str, problem: str) -> ScenarioError:
    return ScenarioError([f"{place}: {problem} in {' '.join(text.split())!r}"])
