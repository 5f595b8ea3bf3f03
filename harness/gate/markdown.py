"""A gate's result as Markdown for a pull request: the headline, what needs attention, every gate folded away.

In: GateResult. Out: Markdown. The first line is a marker by which a bot finds its own comment again.
"""

from harness.compare.differences import differences_between
from harness.gate.decide import GateResult, Outcome
from harness.gate.words import MARKS, WORDS, allowed, change, headline, repeats, values
from harness.report.markdown import escape

_HEADERS = ("", "gate", "baseline", "now", "change, + is worse [95 %]", "allowed", "repeats")


def render(result: GateResult) -> str:
    """The comment."""
    mark = MARKS[result.state]
    lines = [f"<!-- harness gate: {result.candidate.scenario_name} -->", f"## {mark} {headline(result)}", ""]
    lines += [_sides(result), ""]
    open_ones = [outcome for outcome in result.outcomes if outcome.state not in ("passed", "better")]
    for cell_id in dict.fromkeys(outcome.cell_id for outcome in open_ones):
        lines += _table(cell_id, [outcome for outcome in open_ones if outcome.cell_id == cell_id], result)
        lines += [
            f"- {MARKS[o.state]} **{escape(o.metric)}**: {escape(o.detail)}"
            for o in open_ones
            if o.cell_id == cell_id and o.detail
        ] + [""]
    lines += _policy(result)
    lines += [f"- {escape(note)}" for note in result.notes] + ([""] if result.notes else [])
    lines += ["<details><summary>Every gate</summary>", ""]
    for cell_id in dict.fromkeys(outcome.cell_id for outcome in result.outcomes):
        lines += _table(cell_id, [outcome for outcome in result.outcomes if outcome.cell_id == cell_id], result)
    lines += ["</details>", ""] + _unlike(result)
    return "\n".join(lines).rstrip() + "\n"


def _sides(result: GateResult) -> str:
    texts = [
        f"`{run.run_id}` (commit `{str(run.provenance.get('git_commit') or 'unknown')[:10]}`)"
        for run in (result.baseline, result.candidate)
    ]
    target = next((record["target"]["name"] for record in result.candidate.records), "an unknown machine")
    return f"Baseline {texts[0]}, candidate {texts[1]}, on {escape(target)}."


def _policy(result: GateResult) -> list[str]:
    if not result.of_state("inconclusive"):
        return []
    policy = result.spec.on_inconclusive
    ends = "does not fail for it" if policy == "warn" else "fails"
    text = (
        f"Inconclusive means: neither a regression nor its absence was shown. This gate {ends} (`on_inconclusive: {policy}`)."
    )
    return [text, ""]


def _table(cell_id: str, outcomes: list[Outcome], result: GateResult) -> list[str]:
    lines = [f"**{escape(cell_id)}**", "", "| " + " | ".join(_HEADERS) + " |", "|---" * len(_HEADERS) + "|"]
    for outcome in outcomes:
        before, now = values(outcome)
        cells = (f"{MARKS[outcome.state]} {WORDS[outcome.state]}", outcome.metric, before, now, change(outcome) or "—")
        row = (*cells, allowed(outcome, result), repeats(outcome))
        lines.append("| " + " | ".join(escape(text) for text in row) + " |")
    return [*lines, ""]


def _unlike(result: GateResult) -> list[str]:
    rows = differences_between([result.baseline, result.candidate])
    if not rows:
        return []
    lines = ["<details><summary>What differs between the two sides</summary>", "", "| fact | baseline | now |", "|---|---|---|"]
    lines += [f"| {escape(row.name)} | {' | '.join(escape(value or '—') for value in row.values)} |" for row in rows]
    return [*lines, "", "</details>", ""]
