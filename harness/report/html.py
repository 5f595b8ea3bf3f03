"""The HTML page: one file with its style and its pictures inside, which opens offline and prints.

In: Page. Out: HTML text. All text is escaped by the template; only the style sheet and base64 pictures are
inserted as they are.
"""

import base64
import json
from pathlib import Path

from harness.report.page import QUESTION, Page
from harness.report.plots.style import color, keep_together

TEMPLATES = Path(__file__).parent / "templates"


def render(page: Page, *, question: str = QUESTION) -> str:
    """The page as one self-contained HTML document."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_typeset,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.globals.update(png_size=_png_size, color=color)
    environment.filters["script_json"] = _script_json
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    has_timelines = any(section.timelines for section in page.sections)
    script = (TEMPLATES / "timeline.js").read_text(encoding="utf-8") if has_timelines else ""
    return environment.get_template("report.html.j2").render(page=page, question=question, style=style, script=script)


def _typeset(value: object) -> object:
    """Plain text with no line break inside 'NVFP4 × BF16' or before a percent sign; markup is left alone."""
    return keep_together(value) if type(value) is str else value


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _script_json(data: dict) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _png_size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the IHDR chunk (PNG specification, 11.2.2)."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
