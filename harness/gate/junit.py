"""A gate's result as JUnit XML, which CI systems show as tests: a suite a cell, a case a gate.

In: GateResult. Out: XML text. Regression: <failure>. Not comparable, invalid, and inconclusive under `fail`: <error>.
Inconclusive under `warn`: <skipped>. Schema: the JUnit format as the Jenkins xUnit plugin and pytest write it.
"""

from xml.etree import ElementTree as tree

from harness.gate.decide import GateResult, Outcome
from harness.gate.words import WORDS, headline, line


def render(result: GateResult) -> str:
    """The document."""
    root = tree.Element("testsuites", name="harness gate", **_counts(result.outcomes, result))
    cells = dict.fromkeys(outcome.cell_id for outcome in result.outcomes)
    for cell_id in cells:
        members = [outcome for outcome in result.outcomes if outcome.cell_id == cell_id]
        suite = tree.SubElement(root, "testsuite", name=cell_id, **_counts(members, result))
        properties = tree.SubElement(suite, "properties")
        facts = {"baseline": result.baseline.run_id, "candidate": result.candidate.run_id, "result": headline(result)}
        for name, value in facts.items():
            tree.SubElement(properties, "property", name=name, value=value)
        for outcome in members:
            _case(suite, outcome, result)
    tree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tree.tostring(root, encoding="unicode") + "\n"


def element_of(outcome: Outcome, result: GateResult) -> str | None:
    """The element that a state becomes; None for one that passes."""
    if outcome.state in ("passed", "better"):
        return None
    if outcome.state == "inconclusive" and result.spec.on_inconclusive == "warn":
        return "skipped"
    return "failure" if outcome.state == "regression" else "error"


def _case(suite, outcome: Outcome, result: GateResult) -> None:
    case = tree.SubElement(suite, "testcase", classname=outcome.cell_id.replace("/", "."), name=outcome.metric, time="0")
    element = element_of(outcome, result)
    if element is not None:
        message = line(outcome)
        attributes = {"message": message} if element == "skipped" else {"message": message, "type": WORDS[outcome.state]}
        tree.SubElement(case, element, **attributes).text = None if element == "skipped" else outcome.detail


def _counts(outcomes, result: GateResult) -> dict[str, str]:
    kinds = [element_of(outcome, result) for outcome in outcomes]
    numbers = {
        "tests": len(kinds),
        "failures": kinds.count("failure"),
        "errors": kinds.count("error"),
        "skipped": kinds.count("skipped"),
    }
    return {name: str(number) for name, number in numbers.items()}
