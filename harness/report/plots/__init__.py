"""Plots of the report, one file a plot. Each module's draw(variants) yields Plot or Skipped with its reason.

In: variants. Out: PNG bytes with title, caption and alt text, grouped by the section that shows them.
Speed of one model never shares a figure with the quality of another: every figure has one model.
"""

from collections.abc import Sequence

from harness.report.plots.style import Plot, Skipped, context
from harness.report.variants import Variant

__all__ = ["Plot", "Skipped", "draw_all"]


def draw_all(everyone: Sequence[Variant]) -> dict[str, list[Plot | Skipped]]:
    """Every plot by section: memory, quality, batches, speed, serving, timeline, experts, profile."""
    from harness.report.plots import batches, cache, memory, perplexity, roofline, speed, sweep, timeline, usage

    modules = {
        "memory": (memory,),
        "quality": (perplexity,),
        "batches": (batches,),
        "speed": (speed,),
        "serving": (sweep,),
        "timeline": (timeline,),
        "experts": (usage, cache),
        "profile": (roofline,),
    }
    with context():
        return {section: [plot for module in found for plot in module.draw(everyone)] for section, found in modules.items()}
