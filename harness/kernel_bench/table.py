"""Tables of a bench: Markdown for the folder, rich for the terminal. A row a number of tokens, a column a kernel.

In: bench.json and rows. Out: Markdown text, or rich tables. Under a time stands its ratio to the limit; a dash has its
reason below. Formats are apart, for their limits differ. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.kernel_bench.limits import products_beaten
from harness.kernel_bench.rows import OK
from harness.report.numbers import DASH, significant


@dataclass(frozen=True, slots=True)
class FormatTable:
    """One format's figures as text. `fastest[line]`: column with the least time, None where nothing was measured."""

    title: str
    header: list[str]
    lines: list[list[str]]
    fastest: list[int | None]
    notes: list[str]


def format_tables(rows: list[dict]) -> list[FormatTable]:
    """One a format, in the order of the rows."""
    return [_format_table([r for r in rows if r["format"] == name], name) for name in dict.fromkeys(r["format"] for r in rows)]


def _format_table(rows: list[dict], name: str) -> FormatTable:
    kernels = list(dict.fromkeys(row["kernel"] for row in rows))
    notes: list[str] = []
    header, lines, fastest = ["tokens", "experts hit", "limit, us", *kernels], [], []
    for tokens in sorted({row["tokens"] for row in rows}):
        own = {row["kernel"]: row for row in rows if row["tokens"] == tokens}
        first = next(iter(own.values()))
        cells = [_cell(own.get(kernel), notes) for kernel in kernels]
        limit = DASH if first["limit_us"] is None else significant(first["limit_us"])
        lines.append([str(tokens), significant(first["experts_hit"], 2), limit, *cells])
        measured = {i: own[k]["us_median"] for i, k in enumerate(kernels) if k in own and own[k]["status"] == OK}
        fastest.append(3 + min(measured, key=measured.get) if measured else None)
    return FormatTable(name, header, lines, fastest, notes)


def _cell(row: dict | None, notes: list[str]) -> str:
    if row is None:
        return DASH
    if row["status"] == OK:
        return f"{significant(row['us_median'])} ({row['ratio_to_limit']:.2f}x)"
    text = f"{row['kernel']}, {row['status']}: {row['reason']}"
    if text not in notes:
        notes.append(text)
    return f"{DASH} ({notes.index(text) + 1})"


def kernel_lines(rows: list[dict]) -> list[str]:
    """One line a (kernel, format): is it right, and at what perplexity."""
    lines = []
    for kernel, name in dict.fromkeys((row["kernel"], row["format"]) for row in rows):
        own = [row for row in rows if (row["kernel"], row["format"]) == (kernel, name)]
        lines.append(f"{kernel}, {name}: {_correctness(own)}; {_perplexity(own[0])}")
    return lines


def _correctness(own: list[dict]) -> str:
    if own[0]["not_checked"]:
        return own[0]["not_checked"]
    judged = [row for row in own if row["passed"] is not None]
    errors = [row["relative_error"] for row in judged if row["relative_error"] is not None]
    if not judged:
        return "not run"
    worst = f", worst error {max(errors):.1e} of {own[0]['error_bound']:.1e} allowed" if errors else ""
    return ("right" if all(row["passed"] for row in judged) else "WRONG") + worst


def _perplexity(row: dict) -> str:
    if row["perplexity"] is None:
        return f"no perplexity ({row['perplexity_reason']})"
    mark = "" if row["perplexity_within_tolerance"] else ", NOT within 0.1 %"
    right, base = row["perplexity_reference_perplexity"], row["perplexity_bf16_perplexity"]
    return f"pocket-mixtral perplexity {row['perplexity']:.3f} (reference {right:.3f}{mark}; BF16 {base:.3f})"


def absent_lines(info: dict) -> list[str]:
    """One line a (name, reason), with the formats that it holds for."""
    formats: dict[tuple[str, str], list[str]] = {}
    for one in info.get("absent", []):
        formats.setdefault((one["name"], one["reason"]), []).append(one["format"])
    return [
        f"{name} ({', '.join(own)}): {reason}" if own[0] else f"{name}: {reason}" for (name, reason), own in formats.items()
    ]


def heading(info: dict, rows: list[dict]) -> list[str]:
    """What was measured where, as lines."""
    first = rows[0]
    shape = f"hidden {first['hidden']}, intermediate {first['intermediate']}, "
    shape += f"{first['num_experts']} experts, top-{first['top_k']}"
    lines = [f"One MoE layer of {first['model']} ({shape}), routing {first['routing']}, on {first['gpu']}"]
    lines += sorted({row["label"] for row in rows if row["label"]})
    if ceilings := info.get("ceilings"):
        products = ", ".join(f"{kind.upper()} {significant(v)}" for kind, v in ceilings["product_tflops"].items())
        read = f"{significant(ceilings['best_read_gb_s'])} GB/s ({ceilings['read_pattern']})"
        lines.append(f"Ceilings of this run: read {read}; product, TFLOP/s: {products}")
        lines += [_beaten_line(kind, row) for kind, row in products_beaten(ceilings["product_tflops"], rows).items()]
    lines.append(f"Time a layer in us, median of {max(row['repeats'] for row in rows)}; in parentheses, over the limit")
    return lines


def _beaten_line(kind: str, row: dict) -> str:
    """Says that a kernel multiplied faster than the library's product, so that a time below 1x its limit is no misprint."""
    who = f"{row['kernel']} {row['weights'].upper()} at {row['tokens']} tokens"
    return f"That {kind.upper()} product is not the most this device does: {who} reached {significant(row['tflops'])} TFLOP/s"


def markdown(info: dict, rows: list[dict]) -> str:
    """table.md."""
    lines = ["# Kernel bench", ""]
    lines += [f"{line}.  " for line in heading(info, rows)] + ["", f"Timed region: {info['timed_region']}", ""]
    lines += [f"Order: {info['order']}.", ""] if "order" in info else []
    for table in format_tables(rows):
        lines += [f"## {table.title}", "", _md_line(table.header), _md_line(["---"] * len(table.header))]
        for cells, best in zip(table.lines, table.fastest, strict=True):
            lines.append(_md_line([f"**{cell}**" if i == best else cell for i, cell in enumerate(cells)]))
        lines += ["", *(f"({i}) {note}  " for i, note in enumerate(table.notes, start=1)), ""]
    lines += ["## Right, and at what quality", "", *(f"- {line}" for line in kernel_lines(rows)), ""]
    if info.get("absent"):
        lines += ["## Not taking part", "", *(f"- {line}" for line in absent_lines(info))]
    return "\n".join(lines).rstrip() + "\n"


def _md_line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def rich_tables(info: dict, rows: list[dict]):
    """Tables and lines for the terminal, the fastest of a line in bold."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list = [Text(line, style="bold" if i == 0 else "dim") for i, line in enumerate(heading(info, rows))]
    for table in format_tables(rows):
        shown = Table(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
        for name in table.header:
            shown.add_column(name, justify="right", overflow="fold")
        for cells, best in zip(table.lines, table.fastest, strict=True):
            shown.add_row(*(Text(cell, style="bold" if i == best else "") for i, cell in enumerate(cells)))
        parts += ["", shown, *(Text(f"({i}) {note}", style="dim") for i, note in enumerate(table.notes, start=1))]
    parts += ["", *(Text(line) for line in kernel_lines(rows))]
    parts += [Text(f"not taking part: {line}", style="dim") for line in absent_lines(info)]
    return Group(*parts)
