"""Forest plot: the change of each primary metric with its interval, a panel a metric, a row a pair.

In: Comparison. Out: Plot. The axis is the slowdown in percent, so right of zero is worse whichever way the metric points.
The band is the minimum effect: an interval inside it is "same", one that touches both is undecided.
"""

from collections.abc import Iterator

from harness.compare.build import Comparison, PairResult
from harness.compare.judge import Judgement, oriented
from harness.compare.words import side_name
from harness.report.plots import canvas, style

ROW_IN, TOP_IN, MAX_ROWS = 0.44, 0.1, 14
COLORS = {"worse": "#b3261e", "better": "#0b7a4b", "same": "#0072b2", "inconclusive": "#8a6d00", "not judged": "#8c949e"}
NOTE = "Slowdown in percent: right of 0 is worse. Band: the smallest effect that matters. Lines: 95 % intervals."


def draw(comparison: Comparison) -> Iterator[style.Plot | style.Skipped]:
    """One figure for all primary metrics; the largest effects where there are many pairs."""
    panels = {}
    for primary in comparison.rules.primary:
        found = [(r, j) for r in comparison.results for j in r.judgements if j.metric == primary.metric and j.slowdown]
        ranked = sorted(found, key=lambda item: -abs(_pct(item[1].slowdown)))[:MAX_ROWS]
        if ranked:
            panels[primary] = [item for item in found if item in ranked]
    if not panels:
        yield style.Skipped("forest", "no primary metric has a ratio")
        return
    yield _plot(comparison, panels)


def _plot(comparison: Comparison, panels: dict) -> style.Plot:
    title = _title(panels)
    heights = [TOP_IN + len(rows) * ROW_IN for rows in panels.values()]
    figure, axes = canvas.panels(title, heights, note=NOTE, left_in=2.2, right_in=0.15, gap_in=0.75)
    for axis, (primary, rows) in zip(axes, panels.items(), strict=True):
        canvas.panel_title(axis, f"{primary.metric} (effect that matters: {primary.min_effect_pct:g} %)")
        _panel(axis, rows, primary.min_effect_pct, comparison)
    texts = [
        f"{j.metric}, {_label(r, comparison)}: {_pct(j.slowdown):+.1f} % ({j.verdict})"
        for rows in panels.values()
        for r, j in rows
    ]
    total = sum(len(result.judgements) for result in comparison.results)
    shown = sum(map(len, panels.values()))
    caption = "Slowdown of each pair over its baseline, with its bootstrap interval over repeats." + (
        f" The {shown} largest of {total} are drawn." if shown < total else ""
    )
    return style.Plot("forest", title, caption, "Forest plot of slowdowns. " + "; ".join(texts) + ".", canvas.png(figure))


def _title(panels: dict) -> str:
    verdicts = [judgement.verdict for rows in panels.values() for _, judgement in rows]
    if all(verdict == "not judged" for verdict in verdicts):
        return "Changes that are not judged: reference implementation, not FP4's speed"
    parts = [f"{verdicts.count(name)} {name}" for name in ("worse", "better", "same", "inconclusive") if verdicts.count(name)]
    return f"Changes of the primary metrics: {', '.join(parts)}"


def _panel(axis, rows: list[tuple[PairResult, Judgement]], effect_pct: float, comparison: Comparison) -> None:
    ends = [0.0, effect_pct, -effect_pct]
    axis.axvspan(_pct(1 / (1 + effect_pct / 100)), effect_pct, color="#eef2f6", linewidth=0)
    axis.axvline(0, color=style.color("bf16"), linewidth=1.4)
    middles = [TOP_IN / 2 + (index + 0.5) * ROW_IN for index in range(len(rows))]
    for (_, judgement), y_in in zip(rows, middles, strict=True):
        ends += _row(axis, judgement, y_in)
    low, high = min(ends), max(ends)
    span = high - low
    axis.set_xlim(low - 0.06 * span, high + 0.75 * span)
    for (_, judgement), y_in in zip(rows, middles, strict=True):
        text = f"{_pct(judgement.slowdown):+.1f} %  {judgement.verdict}".replace("-", "\u2212")
        axis.text(high + 0.06 * span, y_in, text, va="center", fontsize=9)
    axis.set_ylim(TOP_IN + len(rows) * ROW_IN, 0)
    axis.set_yticks(middles, [_label(result, comparison) for result, _ in rows], fontsize=8.5, linespacing=1.05)
    axis.set_xlabel("slowdown over the baseline, %")
    axis.grid(axis="x")
    axis.locator_params(axis="x", nbins=6)


def _row(axis, judgement: Judgement, y_in: float) -> list[float]:
    hue, reach = COLORS[judgement.verdict], _reach(judgement)
    if judgement.low is not None:
        axis.plot(reach, [y_in, y_in], color=hue, linewidth=2.2, solid_capstyle="butt")
        axis.plot(reach, [y_in, y_in], "|", markersize=9, markeredgewidth=1.8, color=hue)
    face = "white" if judgement.verdict in ("inconclusive", "not judged") else hue
    axis.plot(_pct(judgement.slowdown), y_in, "o", markersize=7, markerfacecolor=face, markeredgecolor=hue, markeredgewidth=1.5)
    return reach


def _reach(judgement: Judgement) -> list[float]:
    if judgement.low is None:
        return [_pct(judgement.slowdown)] * 2
    return sorted(_pct(oriented(end, judgement.direction)) for end in (judgement.low, judgement.high))


def _pct(factor: float) -> float:
    return 100 * (factor - 1)


def _label(result: PairResult, comparison: Comparison) -> str:
    """What tells this row from the others: the side where there are several, model and target likewise, then the cell."""
    cells = [other.pair.b for other in comparison.results]
    cell, across = result.pair.b, comparison.across
    parts = [side_name(cell, across)] if len({side_name(other, across) for other in cells}) > 1 else []
    parts += [cell.target] if across != "run" and len({other.target for other in cells}) > 1 else []
    parts += [cell.model] if len({other.model for other in cells}) > 1 else []
    parts += [cell.name] if across != "precision" and len({other.name for other in cells}) > 1 else []
    parts.append(cell.workload)
    return "\n".join(_short(part) for part in (", ".join(parts[:-1]), parts[-1]) if part)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:18] + " … " + text[-19:]
