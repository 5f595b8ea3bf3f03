"""Plots of a comparison, one file a plot. Each draw(comparison) yields Plot or Skipped with its reason.

Speed of one model is never drawn against the quality of another: every figure of both has one model.
"""

from harness.compare.build import Comparison
from harness.report.plots import Plot, Skipped
from harness.report.plots.style import context
from harness.report.variants import variants

__all__ = ["draw_all"]


def draw_all(comparison: Comparison) -> dict[str, list[Plot | Skipped]]:
    """Every plot by section."""
    from harness.compare.plots import forest, pareto, quality_speed, skew
    from harness.report.plots import speed

    with context():
        everyone = variants(comparison.cells)
        return {
            "effects": list(forest.draw(comparison)),
            "tradeoffs": [*pareto.draw(comparison), *quality_speed.draw(comparison)],
            "speed": list(speed.draw(everyone)),
            "skew": list(skew.draw(comparison)),
        }
