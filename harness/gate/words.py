"""How a gate's result reads: one headline, a mark and a word a state, a line an outcome.

In: GateResult. Out: text that the terminal, Markdown, JUnit and the annotations share. An open answer is never called passed.
"""

from harness.compare.words import figure
from harness.gate.decide import GateResult, Outcome
from harness.report.numbers import count

MARKS = {
    "regression": "❌",
    "not comparable": "🚫",
    "invalid": "🚫",
    "inconclusive": "❔",
    "better": "🚀",
    "passed": "✅",
}
WORDS = {
    "regression": "regression",
    "not comparable": "not comparable",
    "invalid": "nothing measured",
    "inconclusive": "inconclusive",
    "better": "better",
    "passed": "no regression",
}


def headline(result: GateResult) -> str:
    """`Regression: 2 of 7 gates`, by the worst state."""
    total, state = len(result.outcomes), result.state
    if not total:
        return "Nothing was measured: there is no gate to judge"
    number = len(result.of_state(state))
    of_all = f"{number} of {count(total, 'gate')}"
    return {
        "regression": f"Regression in {of_all}",
        "not comparable": f"Not comparable: {of_all} has no counterpart in the baseline",
        "invalid": f"Nothing measured for {of_all}",
        "inconclusive": f"Inconclusive: {of_all} could not be decided, so nothing is shown about them",
        "better": f"No regression in {count(total, 'gate')}, {number} better",
        "passed": f"No regression in {count(total, 'gate')}",
    }[state]


def change(outcome: Outcome) -> str:
    """`+10.2 % slower [+8.9, +11.4]`, or values before and now for an exact gate."""
    judgement = outcome.judgement
    if judgement is None or judgement.slowdown is None:
        return ""
    text = f"{_percent(judgement.slowdown)} %"
    if judgement.low is None:
        return text
    ends = sorted(_ends(judgement))
    return f"{text} [{_percent(ends[0])}, {_percent(ends[1])}]"


def _ends(judgement) -> tuple[float, float]:
    from harness.compare.judge import oriented

    return oriented(judgement.low, judgement.direction), oriented(judgement.high, judgement.direction)


def _percent(factor: float) -> str:
    return f"{100 * (factor - 1):+.1f}".replace("-", "\u2212")


def values(outcome: Outcome) -> tuple[str, str]:
    """(before, now) with units; a dash where there is no number."""
    source = outcome.judgement or outcome.exact
    if source is None:
        return "—", "—"
    pair = (source.median_a, source.median_b) if outcome.judgement else (source.value_a, source.value_b)
    return tuple(figure(value, source.unit) for value in pair)


def repeats(outcome: Outcome) -> str:
    """`30 + 30, in pairs`, or `exact`."""
    judgement = outcome.judgement
    if judgement is None:
        return "exact" if outcome.exact else "—"
    return f"{judgement.num_a} + {judgement.num_b}" + (", in pairs" if judgement.is_paired else "")


def allowed(outcome: Outcome, result: GateResult) -> str:
    """The threshold."""
    if outcome.judgement is not None:
        return f"{outcome.judgement.min_effect_pct:g} %"
    return next((f"{item.max_worse_pct:g} %" for item in result.spec.exact if item.metric == outcome.metric), "—")


def line(outcome: Outcome) -> str:
    """One line for a log or an annotation."""
    before, now = values(outcome)
    parts = [f"{outcome.metric}: {WORDS[outcome.state]}"]
    if now != "—":
        parts.append(f"{before} -> {now}")
    parts += [text for text in (change(outcome), outcome.detail) if text]
    return ", ".join(parts)
