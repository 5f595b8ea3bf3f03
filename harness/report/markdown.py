"""The Markdown report: the same content as the page, with the plots as files beside it.

In: Page. Out: Markdown text (GitHub tables). Folded tables are printed too: Markdown has no fold that all
readers know.
"""

from harness.report.grid import Entry, Table
from harness.report.page import QUESTION, Page
from harness.report.sections import Section

PLOT_FOLDER = "plots"


def render(page: Page, *, question: str = QUESTION) -> str:
    """The report as one Markdown document; picture links are relative to it."""
    lines = [f"# {question}", "", f"**{_escape(page.title)}** · {_escape(page.subtitle)}", ""]
    for lead in page.leads:
        lines += [_escape(lead), ""]
    lines += [f"> **{'Warning' if notice.tone == 'warn' else 'Note'}:** {_escape(notice.text)}\n>" for notice in page.notices]
    lines.append("")
    if page.answers:
        lines += _answers(page)
    lines += ["## Results", ""]
    for found in page.results:
        lines += table_lines(found)
    for section in page.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip() + "\n"


def _answers(page: Page) -> list[str]:
    lines = ["| Weights × activations | Expert memory | Quality | Speed beside BF16 |", "|---|---|---|---|"]
    for answer in page.answers:
        head = answer.variant.head
        facts = (f"**{_escape(fact.figure)}** {_escape(fact.detail)}" for fact in (answer.memory, answer.quality, answer.speed))
        invalid = f" INVALID: {', '.join(answer.invalid)}" if answer.invalid else ""
        where = ", ".join(filter(None, (head.target, answer.backend)))
        name = _escape(f"{head.name} ({head.method}), {head.model}, {where}{invalid}")
        lines.append(f"| {name} | {' | '.join(facts)} |")
    return [*lines, ""]


def _section(section: Section) -> list[str]:
    lines = [f"## {_escape(section.title)}", "", _escape(section.intro), ""]
    for of, told in section.notes:
        lines += [f"**{_escape(of)}**", ""] if of else []
        lines += [*(f"- {_escape(line)}" for line in told), ""]
    for plot in section.plots:
        lines += [
            f"![{_escape(plot.alt)}]({PLOT_FOLDER}/{plot.name}.png)",
            "",
            f"**{_escape(plot.title)}.** {_escape(plot.caption)}",
            "",
        ]
    lines += [f"- Not drawn: {plot.name}: {_escape(plot.reason)}" for plot in section.skipped]
    if section.skipped:
        lines.append("")
    for found in section.tables:
        lines += table_lines(found)
    for summary, text in section.texts:
        lines += [
            f"<details><summary>{_escape(summary)}</summary>",
            "",
            "```json",
            text.replace("```", "` ` `"),
            "```",
            "",
            "</details>",
            "",
        ]
    return lines


def table_lines(found: Table) -> list[str]:
    """One Markdown table a group, its label above it, footnotes below."""
    lines = [f"*{_escape(found.caption)}*", ""]
    for group in found.groups:
        lines += [f"**{_escape(group.label)}**", ""] if group.label else []
        lines += [
            "| " + " | ".join(_escape(header) or " " for header in found.headers) + " |",
            "|---" * len(found.headers) + "|",
        ]
        lines += ["| " + " | ".join(_entry(entry) for entry in row) + " |" for row in group.rows]
        lines.append("")
    lines += [f"({number}) {_escape(text)}  " for number, text in enumerate(found.footnotes, start=1)]
    return [*lines, ""] if found.footnotes else lines


def _entry(entry: Entry) -> str:
    text = _escape(f"{entry.text} {entry.unit}".strip())
    if entry.tone == "head":
        text = f"**{text}**" if text else ""
    if entry.tone == "projected":
        text = f"*{text}*"
    if entry.footnote is not None:
        text += f" ({entry.footnote})"
    return text + (f" ({_escape(entry.detail)})" if entry.detail else "")


def _escape(text: str) -> str:
    """Keep text from becoming markup: HTML, table bars, line ends, emphasis and links."""
    text = " ".join(str(text).split("\n")).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "|*`[]":
        text = text.replace(mark, "\\" + mark)
    return text


def escape(text: str) -> str:
    """The same for documents outside the report."""
    return _escape(text)
