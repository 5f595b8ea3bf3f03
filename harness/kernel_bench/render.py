"""Everything that is drawn from bench.json and rows.jsonl: table.md, roofline.png, latency.png.

In: a bench's folder. Out: files in it, and a note for each that could not be made. Plots need matplotlib and Pillow, which
a GPU host may lack: `harness kernels bench --render DIR` draws them elsewhere from the same folder.
"""

from __future__ import annotations

from pathlib import Path

from harness.kernel_bench.results import read_bench, write_text
from harness.kernel_bench.rows import OK


def render(folder: Path) -> list[str]:
    """Notes, one line each."""
    bench = read_bench(folder)
    if not bench.rows:
        return ["no rows: nothing to draw"]
    from harness.kernel_bench.table import markdown

    write_text(folder / "table.md", markdown(bench.info, bench.rows))
    if not any(row["status"] == OK for row in bench.rows):
        return ["no row has a time: no plots"]
    try:
        from harness.kernel_bench.plots import draw
    except ImportError as error:
        return [_later(folder, error)]
    try:
        for name, png in draw(bench.info, bench.rows):
            (folder / f"{name}.png").write_bytes(png)
    except ImportError as error:
        return [_later(folder, error)]
    return []


def _later(folder: Path, error: ImportError) -> str:
    return f"no plots: {error}; draw them where matplotlib is with: harness kernels bench --render {folder}"
