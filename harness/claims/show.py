"""Judged claims as a table of the report, as Markdown and for the terminal; what is projected carries its mark."""

from collections import Counter
from collections.abc import Sequence

from harness.claims.verdicts import (
    CONTRADICTED,
    IMPOSSIBLE,
    MEANINGS,
    NOT_TESTABLE,
    SUPPORTED,
    UNDERSPECIFIED,
    VERDICTS,
    Finding,
    JudgedClaim,
)
from harness.report.grid import Entry, Group, Table, table

MARKS = {SUPPORTED: "✓", CONTRADICTED: "✕", IMPOSSIBLE: "✕✕", UNDERSPECIFIED: "?", NOT_TESTABLE: "–"}
TONES = {SUPPORTED: "valid", CONTRADICTED: "invalid", IMPOSSIBLE: "invalid", UNDERSPECIFIED: "warn", NOT_TESTABLE: "muted"}
STYLES = {SUPPORTED: "green", CONTRADICTED: "red", IMPOSSIBLE: "bold red", UNDERSPECIFIED: "yellow", NOT_TESTABLE: "dim"}
HEADERS = ("Check", "Verdict", "Basis", "Evidence")


def claims_table(judged: Sequence[JudgedClaim]) -> Table:
    """A group a claim, a row a check."""
    groups = [Group(_label(claim), tuple(_row(finding) for finding in claim.findings)) for claim in judged]
    return table(counted(judged), HEADERS, groups)


def counted(judged: Sequence[JudgedClaim]) -> str:
    """'10 claims: 4 impossible, 3 contradicted, ...'."""
    counts = Counter(claim.verdict for claim in judged)
    return f"{len(judged)} claims: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])


def _label(claim: JudgedClaim) -> str:
    says = f" “{claim.says}”" if claim.says else ""
    return f"{claim.name}: {claim.verdict.upper()}.{says}"


def _row(finding: Finding) -> tuple[Entry, ...]:
    tone = "projected" if finding.basis.startswith("projected") else "text"
    return (
        Entry(finding.check, tone="code"),
        Entry(f"{MARKS[finding.verdict]} {finding.verdict}", tone=TONES[finding.verdict]),
        Entry(finding.basis, tone=tone),
        Entry(finding.text, tone=tone),
    )


def markdown(title: str, judged: Sequence[JudgedClaim], provenance: str) -> str:
    """The whole report of claims."""
    from harness.report.markdown import table_lines

    lines = [f"# {title}", "", f"{counted(judged)}.", "", provenance, ""]
    lines += ["| claim | the words | verdict |", "|---|---|---|"]
    lines += [f"| **{claim.name}** | {claim.says} | **{MARKS[claim.verdict]} {claim.verdict}** |" for claim in judged]
    lines += ["", *[f"- **{name}**: {meaning}." for name, meaning in MEANINGS.items()], "", "## The checks", ""]
    for claim in judged:
        lines += [f"### {claim.name}: {claim.verdict}", ""]
        lines += [f"> {claim.says}", ""] if claim.says else []
        rows = table("", HEADERS, [Group("", tuple(_row(finding) for finding in claim.findings))])
        lines += table_lines(rows)[2:]
        lines += [claim.note, ""] if claim.note else []
        sources = dict.fromkeys(source for finding in claim.findings for source in finding.sources)
        folded = ["<details><summary>Sources</summary>", "", *[f"- {source}" for source in sources], "", "</details>", ""]
        lines += folded if sources else []
    return "\n".join(lines).rstrip() + "\n"


def terminal(judged: Sequence[JudgedClaim]):
    """A table for a rich console."""
    from rich.table import Table as RichTable
    from rich.text import Text

    from harness.project.estimate import RICH_STYLE

    shown = RichTable(title=counted(judged), title_justify="left", show_lines=True, expand=True)
    shown.add_column("claim", overflow="fold", ratio=3)
    shown.add_column("verdict", overflow="fold", min_width=11)
    shown.add_column("checks and evidence", overflow="fold", ratio=8)
    for claim in judged:
        body = Text()
        for finding in claim.findings:
            body.append(f"{finding.check}: ", style="bold")
            body.append(finding.verdict, style=STYLES[finding.verdict])
            style = RICH_STYLE if finding.basis.startswith("projected") else ""
            body.append(f" [{finding.basis}] {finding.text}\n", style=style)
        body.rstrip()
        shown.add_row(Text(f"{claim.name}\n{claim.says}"), Text(claim.verdict, style=STYLES[claim.verdict]), body)
    return shown
