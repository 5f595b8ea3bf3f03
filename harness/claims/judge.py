"""Judge one check: what is known of both sides, and whether the relation holds between them.

In: a Check and the evidence. Out: Finding. Speeds go to sweep.py; everything else is a span of values against a span. A size
that is claimed smaller than its own arithmetic is impossible, not just contradicted.
"""

from harness.claims.evidence import Evidence, Known, Unknown, known, mixtral, weights_of
from harness.claims.grammar import NEAR, Check, Term
from harness.claims.speedup import speedup
from harness.claims.sweep import judge_speed
from harness.claims.trials import METRIC
from harness.claims.verdicts import (
    COMPUTED,
    CONTRADICTED,
    DATA_SHEET,
    IMPOSSIBLE,
    NO_BASIS,
    NOT_TESTABLE,
    SUPPORTED,
    UNDERSPECIFIED,
    Finding,
)
from harness.device import gpu_table
from harness.project.estimate import PROJECTED, UNVALIDATED
from harness.project.memory import BITS, expert_bytes
from harness.report.numbers import significant

SIZES = {"memory": "lower", "weights": "lower", "compression": "higher", "expert compression": "higher"}
"""Quantity -> which way a claim is too good to be true."""
BARE_BITS = 4


def judge_check(check: Check, evidence: Evidence) -> Finding:
    """The verdict on one check."""
    if check.right.text is not None:
        return _judge_text(check)
    if check.left.quantity in METRIC and check.right.is_constant:
        return judge_speed(check, evidence)
    sides = [_known(term, evidence) for term in (check.left, check.right)]
    for side in sides:
        if isinstance(side, Unknown):
            verdict = UNDERSPECIFIED if side.reason.startswith("names no") else NOT_TESTABLE
            return Finding(check.source, verdict, NO_BASIS, side.reason)
    return _judge_spans(check, *sides)


def _known(term: Term, evidence: Evidence) -> Known | Unknown:
    if term.quantity == "speedup":
        return speedup(term)
    if term.quantity in METRIC:
        return Unknown("two speeds are not compared here; hold each against a number, or ask for `speedup`")
    return known(term, evidence)


def _judge_text(check: Check) -> Finding:
    name = check.left.qualifiers.get("on")
    if check.left.quantity != "gpu.memory_kind" or name is None:
        return Finding(check.source, UNDERSPECIFIED, NO_BASIS, "only `gpu.memory_kind = KIND on GPU` is compared with a name")
    row = gpu_table()[name]
    verdict = SUPPORTED if row["memory_kind"].lower() == check.right.text.lower() else CONTRADICTED
    text = f"{name} has {row['memory_gb']} GB of {row['memory_kind']}"
    return Finding(check.source, verdict, DATA_SHEET, text, (row["source"],))


def _judge_spans(check: Check, left: Known, right: Known) -> Finding:
    basis = left.basis if check.right.is_constant else _weaker(left.basis, right.basis)
    text = left.text if check.right.is_constant and not check.left.is_constant else f"{left.text} against {right.text}"
    sources = tuple(dict.fromkeys((*left.sources, *right.sources)))
    same_arithmetic = _same_arithmetic(check)
    if same_arithmetic is not None:
        return Finding(check.source, same_arithmetic, basis, f"{_WHY_SAME} {left.text}", sources)
    corners = [_holds(a, check.relation, b) for a in (left.low, left.high) for b in (right.low, right.high)]
    if all(corners):
        return Finding(check.source, SUPPORTED, basis, text, sources)
    if any(corners) or _spans_meet(check, left, right):
        return Finding(check.source, UNDERSPECIFIED, basis, f"holds for some and not for others: {text}", sources)
    if check.left.quantity in SIZES and check.right.is_constant and _too_good(check, left) and (why := _bare(check)):
        return Finding(check.source, IMPOSSIBLE, COMPUTED, f"{why}{text}", sources)
    return Finding(check.source, CONTRADICTED, basis, text, sources)


_WHY_SAME = (
    "the weights are rounded before any GPU sees them: with the same formats and methods the perplexity differs by no more "
    "than the kernels' sums do (within .03 % in docs/kernels.md);"
)


def _same_arithmetic(check: Check) -> str | None:
    """Perplexity of one precision on two GPUs: equal, whatever is claimed of it; None where that is not the question."""
    sides = check.left, check.right
    if any(term.quantity != "perplexity change" for term in sides):
        return None
    if len({term.qualifiers.get("with", "nvfp4") for term in sides}) > 1:
        return None
    return SUPPORTED if check.relation in ("=", "~", ">=", "<=") else CONTRADICTED


def _holds(a: float, relation: str, b: float) -> bool:
    if relation in NEAR:
        return abs(a - b) <= NEAR[relation] * max(abs(b), 1e-12)
    return {">=": a >= b, "<=": a <= b, ">": a > b, "<": a < b}[relation]


def _spans_meet(check: Check, left: Known, right: Known) -> bool:
    return check.relation in NEAR and left.low <= right.high and right.low <= left.high


def _too_good(check: Check, left: Known) -> bool:
    claimed = check.right.number
    return claimed < left.low if SIZES[check.left.quantity] == "lower" else claimed > left.high


def _bare(check: Check) -> str | None:
    """Why no implementation could: bare codes or the experts alone are more; None where only this recipe is more."""
    shape, weights, claimed = mixtral(), weights_of(check.left), check.right.number
    if SIZES[check.left.quantity] == "higher":
        bits = f"{significant(16 / claimed)} bits a weight with its scales, {weights} has {BITS[weights]:g}"
        return f"{claimed:g}x needs {bits}; "
    bare, experts = shape.num_parameters * BARE_BITS / 8 / 1e9, expert_bytes(shape, weights) / 1e9
    if claimed < bare:
        return f"{shape.num_parameters / 1e9:.1f} B parameters in bare {BARE_BITS}-bit codes are {bare:.1f} GB already; "
    return f"the experts alone are {experts:.1f} GB in {weights}; " if claimed < experts else None


def _weaker(a: str, b: str) -> str:
    order = (UNVALIDATED, PROJECTED, "measured", COMPUTED, DATA_SHEET)
    return min((a, b), key=order.index)
