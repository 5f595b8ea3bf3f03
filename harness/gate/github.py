"""A gate's result as GitHub annotations: workflow commands, a line each.

In: GateResult. Out: lines for the log; GitHub shows them on the pull request's checks. `error` for what fails the gate,
`warning` for an open answer under `on_inconclusive: warn`, `notice` for what got better. Escapes: GitHub's own
(percent, line ends; in properties also colon and comma).
"""

from harness.gate.decide import GateResult, Outcome
from harness.gate.junit import element_of
from harness.gate.words import WORDS, line

_LEVEL = {"failure": "error", "error": "error", "skipped": "warning", None: "notice"}


def annotations(result: GateResult) -> list[str]:
    """One a gate that did not plainly pass."""
    return [_annotation(outcome, result) for outcome in result.outcomes if outcome.state != "passed"]


def _annotation(outcome: Outcome, result: GateResult) -> str:
    title = _property(f"{outcome.cell_id}: {WORDS[outcome.state]}")
    return f"::{_LEVEL[element_of(outcome, result)]} title={title}::{_data(line(outcome))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
