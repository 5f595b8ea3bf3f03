"""Reports from run folders: one self-contained HTML page, Markdown with PNG plots, a table for the terminal.

In: paths of run folders; several runs of one scenario merge into one report. Out: files, or a rich table.
Importing this package imports no pandas, matplotlib, jinja2 or torch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

PROJECTIONS = "projections.json"
__all__ = ["ReportPaths", "terminal_table", "write_reports"]


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written."""

    html: Path
    markdown: Path
    plots: tuple[Path, ...]


def write_reports(runs: Sequence[Path | str], out_dir: Path | str, project: Sequence[str] = ()) -> ReportPaths:
    """Write report.html, report.md and plots/*.png of the run folders `runs` into `out_dir`.

    `project` names GPUs whose missing cells are projected; they stand in projections.json too, marked.
    Plots of an earlier report in the same folder are overwritten where the name is the same, else kept.
    """
    from harness.report import html, markdown
    from harness.report.data import load
    from harness.report.page import build

    page = build(_loaded(runs, load), project)
    folder = Path(out_dir)
    plot_folder = folder / markdown.PLOT_FOLDER
    plot_folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for plot in page.plots:
        path = plot_folder / f"{plot.name}.png"
        path.write_bytes(plot.png)
        paths.append(path)
    html_path, markdown_path = folder / "report.html", folder / "report.md"
    html_path.write_text(html.render(page), encoding="utf-8")
    markdown_path.write_text(markdown.render(page), encoding="utf-8")
    if project:
        text = json.dumps({"kind": "projected", "projections": page.projections}, indent=1, allow_nan=False)
        (folder / PROJECTIONS).write_text(text + "\n", encoding="utf-8")
    return ReportPaths(html_path, markdown_path, tuple(paths))


def terminal_table(runs: Sequence[Path | str]) -> "Table":
    """The table of results of the run folders `runs`, for a rich console."""
    from harness.report import terminal
    from harness.report.data import load

    return terminal.render(_loaded(runs, load))


def _loaded(runs: Sequence[Path | str], load) -> list:
    if not runs:
        raise ValueError("runs: a report needs at least one run folder (got none); pass a folder with a run.json")
    return [load(path) for path in runs]
