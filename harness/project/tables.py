"""Projections and their errors as tables for the terminal, every projected figure in its own color and with its mark."""

from collections.abc import Sequence

from harness.project.estimate import RICH_STYLE, Estimate
from harness.project.loo import LayerError, ModelError
from harness.project.projection import Projection
from harness.report.numbers import DASH, bytes_text

METRICS = (
    ("output_throughput", "output\ntokens/s"),
    ("median_ttft_ms", "TTFT\nms"),
    ("median_tpot_ms", "TPOT\nms"),
)


def projections_table(rows: Sequence[Projection]):
    """One row a (GPU, kernel): fit, batch, speed; `rows` has at least one."""
    from rich.table import Table
    from rich.text import Text

    ask = rows[0].ask
    what = f"{rows[0].model.name}, {ask.prompt} tokens in, {ask.output} out, batch {ask.batch}"
    caption = "PROJECTED, not measured. ~: a measured architecture, see --errors; a range: never measured there (unvalidated)."
    table = Table(title=f"{what}: projected", caption=caption, title_justify="left", caption_justify="left")
    for name in ("GPU", "engine, kernel", "precision", "weights", "largest\nbatch", "models"):
        table.add_column(name, justify="right" if name in ("weights", "largest\nbatch", "models") else "left")
    for _, header in METRICS:
        table.add_column(header, justify="right")
    table.add_column("why not", overflow="fold")
    for row in rows:
        figures = [_cell(row.metrics.get(name)) for name, _ in METRICS]
        fit = row.fit
        kernel = f"{row.candidate.engine}, {row.candidate.kernel}{row.notes}"
        sizes = (bytes_text(fit.weight_bytes), str(fit.max_batch), str(fit.num_models))
        table.add_row(row.gpu.name, kernel, row.label, *sizes, *figures, Text(row.reason or "", style="dim"))
    return table


def published_text(points: Sequence[dict]) -> str:
    """What others published for these GPUs, a line each with conditions and source."""
    lines = [f"- {p['gpu']}, {p['model']}: {p['figure']} ({p['conditions']}). {p['source']}" for p in points]
    return "\n".join(["\nPublished by others for GPUs named here, never run here:", *lines])


def _cell(estimate: Estimate | None):
    from rich.text import Text

    if estimate is None:
        return Text(DASH, style="dim")
    return Text(estimate.text.replace(f" {estimate.unit}", ""), style=RICH_STYLE)


def layer_errors_table(rows: Sequence[LayerError]):
    """A row a kernel, a column a number of tokens; in brackets what does not count."""
    from rich.table import Table

    if not rows:
        return "no kernel was measured on both GPUs"
    counts = sorted({row.tokens for row in rows})
    head = f"One layer on {rows[0].target} predicted from {rows[0].source} alone: error in %"
    caption = "[ ]: untuned on one of the two, does not count"
    table = Table(title=head, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("kernel")
    for tokens in counts:
        table.add_column(str(tokens), justify="right")
    for name in dict.fromkeys((row.kernel, row.weights) for row in rows):
        found = {row.tokens: row for row in rows if (row.kernel, row.weights) == name}
        table.add_row(" ".join(name), *[_error(found.get(tokens)) for tokens in counts])
    return table


def _error(row: LayerError | None) -> str:
    if row is None:
        return ""
    text = f"{row.error_pct:+.1f}"
    return text if row.counts else f"\\[{text}]"


def model_errors_table(title: str, rows: Sequence[ModelError]):
    """Measured beside predicted."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in ("engine", "GPU", "time", "batch", "prompt", "measured ms", "predicted ms", "error %", "basis"):
        table.add_column(name, justify="left" if name in ("engine", "GPU", "time", "basis") else "right", overflow="fold")
    for row in rows:
        figures = f"{row.measured_ms:.2f}", f"{row.predicted_ms:.2f}", f"{row.error_pct:+.1f}"
        table.add_row(row.engine, row.target, row.what, str(row.batch), str(row.prompt), *figures, row.basis)
    return table
