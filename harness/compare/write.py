"""Write a comparison: compare.html (self-contained), compare.md with plots/*.png beside it, compare.json.

In: Comparison and a folder. Out: paths by kind. Raises OSError when the folder cannot be written.
"""

import json
from pathlib import Path

from harness.compare.build import Comparison
from harness.compare.data import data


def write_comparison(comparison: Comparison, out: Path) -> dict[str, Path]:
    """Write the three files and the plots."""
    from harness.compare.page import QUESTION, build
    from harness.report import html, markdown

    page = build(comparison)
    plots = out / markdown.PLOT_FOLDER
    plots.mkdir(parents=True, exist_ok=True)
    for plot in page.plots:
        (plots / f"{plot.name}.png").write_bytes(plot.png)
    texts = {
        "html": html.render(page, question=QUESTION),
        "markdown": markdown.render(page, question=QUESTION),
        "json": json.dumps(data(comparison), indent=2, allow_nan=False) + "\n",
    }
    paths = {kind: out / f"compare.{'md' if kind == 'markdown' else kind}" for kind in texts}
    for kind, text in texts.items():
        paths[kind].write_text(text, encoding="utf-8")
    return paths
