"""What a gate leaves: gate.json, gate.md, gate.junit.xml in a folder, annotations on standard error, a table on the terminal.

In: GateResult and a folder. Out: files; data for --json. `gate.json` holds every number that the verdicts stand on.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import StorageError
from harness.gate import github, junit, markdown
from harness.gate.decide import GateResult
from harness.gate.words import MARKS, WORDS, allowed, change, headline, repeats, values

if TYPE_CHECKING:
    from rich.table import Table

STYLES = {
    "regression": "bold red",
    "not comparable": "red",
    "invalid": "red",
    "inconclusive": "yellow",
    "better": "green",
    "passed": "green",
}


def write(result: GateResult, folder: Path) -> dict[str, Path]:
    """Write the three files; StorageError when that fails."""
    texts = {
        "json": ("gate.json", json.dumps(data(result), indent=2, allow_nan=False) + "\n"),
        "markdown": ("gate.md", markdown.render(result)),
        "junit": ("gate.junit.xml", junit.render(result)),
    }
    paths = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, (name, text) in texts.items():
            paths[kind] = folder / name
            paths[kind].write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"{folder}: the gate's result could not be stored ({error}); choose another folder with --out"
        ) from None
    return paths


def data(result: GateResult) -> dict:
    """The result as JSON data."""
    return {
        "headline": headline(result),
        "state": result.state,
        "exit_code": result.exit_code,
        "on_inconclusive": result.spec.on_inconclusive,
        "baseline": _run(result.baseline),
        "candidate": _run(result.candidate),
        "outcomes": [
            {
                "cell_id": outcome.cell_id,
                "metric": outcome.metric,
                "state": outcome.state,
                "detail": outcome.detail,
                "judgement": asdict(outcome.judgement) if outcome.judgement else None,
                "exact": asdict(outcome.exact) if outcome.exact else None,
            }
            for outcome in result.outcomes
        ],
        "notes": list(result.notes),
    }


def _run(run) -> dict:
    return {"run_id": run.run_id, "folder": str(run.path), "git_commit": run.provenance.get("git_commit")}


def annotations(result: GateResult) -> str:
    return "\n".join(github.annotations(result))


def terminal_table(result: GateResult) -> "Table":
    """A row a gate, worst first within a cell."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(f"{MARKS[result.state]} {headline(result)}", style=STYLES[result.state]),
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name, justify in (
        ("gate", "left"),
        ("baseline", "right"),
        ("now", "right"),
        ("change, + is worse", "right"),
        ("allowed", "right"),
        ("repeats", "left"),
        ("", "left"),
    ):
        table.add_column(name, justify=justify, overflow="fold")
    for cell_id in dict.fromkeys(outcome.cell_id for outcome in result.outcomes):
        table.add_row(Text(cell_id, style="bold"))
        for outcome in (outcome for outcome in result.outcomes if outcome.cell_id == cell_id):
            word = Text(WORDS[outcome.state], style=STYLES[outcome.state])
            table.add_row(
                f"  {outcome.metric}", *values(outcome), change(outcome), allowed(outcome, result), repeats(outcome), word
            )
    return table
