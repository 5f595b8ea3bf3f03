"""Plots: no texts that meet or leave the picture, fixed colors, titles with the finding, reasons for gaps."""

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.report.cells import measured_cells
from harness.report.data import load
from harness.report.plots import Plot, Skipped, canvas, draw_all, style
from harness.report.variants import variants
from report_fixture import A100, RTX_5090, Spec, make_run

RECORD = Path(__file__).parents[2] / "results/baselines/quality-pocket-mixtral"
SIX = ("bf16", "fp8", "nvfp4", "mxfp4", "int4", "ternary")
SPECS = {
    "cpu-with-a-failed-repeat": (Spec(),),
    "six-precisions": (Spec(precisions=SIX, failing=()),),
    "two-machines": (Spec(target=A100, run_id="a"), Spec(target=RTX_5090, speedup=1.9, run_id="b")),
    "one-precision-one-repeat": (Spec(precisions=("nvfp4",), num_repeats=1, failing=()),),
}


def everyone_of(tmp_path, *specs):
    return variants(measured_cells([load(make_run(tmp_path, spec)) for spec in specs]))


def drawn(tmp_path, *specs):
    sections = draw_all(everyone_of(tmp_path, *specs))
    return {plot.name: plot for plots in sections.values() for plot in plots}


def boxes(figure):
    """(text, pixel box) of every visible text; tick labels outside the axes' limits are not drawn."""
    from matplotlib.text import Text

    figure.canvas.draw()
    hidden = set()
    for axis in figure.axes:
        for side in (axis.xaxis, axis.yaxis):
            low, high = sorted(side.get_view_interval())
            ticks = zip(side.get_majorticklocs(), side.get_majorticklabels(), strict=False)
            hidden |= {id(label) for place, label in ticks if not low <= place <= high}
    renderer = figure.canvas.get_renderer()
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            yield text.get_text(), text.get_window_extent(renderer)


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is drawn, instead of its PNG: the slow part of drawing is left out."""
    kept = []

    def keep(figure):
        kept.append(figure)
        return b""

    monkeypatch.setattr(canvas, "png", keep)
    monkeypatch.setattr(canvas, "true_color_png", keep)
    return kept


@pytest.mark.parametrize("specs", [pytest.param(specs, id=name) for name, specs in SPECS.items()])
def test_no_texts_meet_or_leave_the_picture(tmp_path, figures, specs):
    drawn(tmp_path, *specs)
    assert_texts_apart(figures)


def test_no_texts_meet_where_a_record_has_fourteen_variants(figures):
    everyone = variants(measured_cells([load(RECORD)]))
    assert len(everyone) == 14
    draw_all(everyone)
    assert_texts_apart(figures)


def assert_texts_apart(figures) -> None:
    assert figures
    with style.context():
        for figure in figures:
            width, height = figure.canvas.get_width_height()
            found = list(boxes(figure))
            for text, box in found:
                inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width + 1 and box.y1 <= height + 1
                assert inside, f"{text!r} leaves the picture: {box} of {width} x {height}"
            for (one, first), (two, second) in combinations(found, 2):
                # a pixel of slack: text boxes include the line's leading
                across = min(first.x1, second.x1) - max(first.x0, second.x0)
                down = min(first.y1, second.y1) - max(first.y0, second.y0)
                assert across <= 1 or down <= 1, f"{one!r} meets {two!r}"


@pytest.fixture(scope="module")
def cpu_plots(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("cpu"), Spec())


def test_all_plots_are_there_with_caption_alt_and_sane_size(cpu_plots):
    kinds = {name.split("-pocket-mixtral")[0] for name in cpu_plots}
    assert kinds == {
        "throughput",
        "ttft",
        "memory",
        "perplexity",
        "expert-usage",
        "expert-cache",
        "timeline",
    }
    for plot in cpu_plots.values():
        image = Image.open(io.BytesIO(plot.png))
        assert image.width == round(canvas.WIDTH_IN * canvas.DPI)
        assert 200 < image.height < 2500
        assert 5_000 < len(plot.png) < 250_000
        assert plot.alt and plot.caption and "n = " in plot.caption


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("throughput", "Throughput of the reference implementation: not FP4's speed"),
        ("ttft", "Time to first token of the reference implementation: not FP4's speed"),
        ("memory", "NVFP4 stores the experts in 28 % and MXFP4 in 27 % of BF16's bytes"),
        ("perplexity", "NVFP4 × BF16 changes perplexity by +1.3 %, MXFP4 × BF16 by +2.9 %"),
    ],
)
def test_title_states_the_finding(cpu_plots, kind, title):
    assert cpu_plots[f"{kind}-pocket-mixtral"].title == title


def test_speed_title_is_a_ratio_where_a_kernel_ran(tmp_path, figures):
    plots = drawn(tmp_path, Spec(target=A100, speedup=1.9, failing=()))
    assert plots["throughput-pocket-mixtral"].title.startswith("NVFP4 × BF16 gives 1.")
    assert plots["ttft-pocket-mixtral"].title.startswith("NVFP4 × BF16 takes 0.5")


def test_formats_keep_their_exact_colors(tmp_path):
    """The palette of a PNG is chosen by count; the colors of the formats have to survive it."""
    plots = drawn(tmp_path, Spec(precisions=SIX, workloads=("single",), target=A100, failing=()))
    image = Image.open(io.BytesIO(plots["throughput-pocket-mixtral"].png)).convert("RGB")
    seen = {tuple(color) for color in np.asarray(image).reshape(-1, 3)}
    for weights in SIX:
        wanted = tuple(int(style.color(weights)[i : i + 2], 16) for i in (1, 3, 5))
        assert wanted in seen, weights


def test_colors_are_distinct_and_bf16_is_gray():
    assert len(set(style.COLORS.values())) == len(style.COLORS)
    red, green, blue = (style.color("bf16")[i : i + 2] for i in (1, 3, 5))
    assert red == green == blue


@pytest.mark.parametrize(
    ("spec", "name", "reason"),
    [
        pytest.param(
            Spec(weights_source="random"),
            "perplexity-pocket-mixtral",
            "random weights carry no perplexity",
            id="random-weights",
        ),
        pytest.param(
            Spec(failing=("*",)),
            "memory-pocket-mixtral",
            "no cell of pocket-mixtral has a figure",
            id="all-failed",
        ),
        pytest.param(Spec(precisions=("bf16",)), "perplexity-pocket-mixtral", "only BF16 was measured", id="only-bf16"),
    ],
)
def test_plot_that_cannot_be_drawn_says_why(tmp_path, figures, spec, name, reason):
    assert drawn(tmp_path, spec)[name] == Skipped(name, reason)


def test_missing_samples_skip_the_timeline_only(tmp_path, figures):
    path = make_run(tmp_path)
    for file in (path / "samples").iterdir():
        file.unlink()
    plots = draw_all(variants(measured_cells([load(path)])))
    assert all(isinstance(plot, Skipped) and "are missing" in plot.reason for plot in plots["timeline"])
    assert all(isinstance(plot, Plot) for plot in plots["memory"])


def test_far_outlier_leaves_the_axis_to_fp4(tmp_path, figures):
    drawn(tmp_path, Spec(precisions=SIX, workloads=("heldout",), failing=()))
    (figure,) = [f for f in figures if f.axes[0].get_xlabel() == "perplexity change against BF16, %"]
    assert figure.axes[0].get_xlim()[1] < 10
    assert any(text.startswith("off the axis:  +61.0 %") for text, _ in boxes(figure))
