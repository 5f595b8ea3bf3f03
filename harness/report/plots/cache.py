"""Plot of the expert cache: hit rate by policy against slots a layer, and by precision against bytes.

In: variants whose cells have an `experts.cache` entry. Out: Plot, a figure a (target, model), from the first
request workload that has one, else from the held-out text.
"""

from collections.abc import Iterator, Sequence

from harness.report.cells import FORMAT_NAMES, FP4_FORMATS, MeasuredCell
from harness.report.numbers import BYTE_STEPS, grouped
from harness.report.plots import canvas, style
from harness.report.tables.experts import POLICIES, experts_of
from harness.report.variants import Variant

LINES = {"belady": (":", "^"), "lru": ("-", "o"), "lfu": ("--", "s")}
MARKERS = {"bf16": "s", "nvfp4": "o", "mxfp4": "^", "fp8": "D", "int4": "v", "ternary": "P"}
PANEL_IN = 2.3


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    for target, model in dict.fromkeys((v.head.target, v.head.model) for v in everyone):
        ours = [v for v in everyone if (v.head.target, v.head.model) == (target, model)]
        cells = [cell for variant in ours for cell in variant.cells if _entries(cell)]
        name = style.slug("expert-cache", model, target)
        if cells:
            workload = min(cells, key=lambda cell: cell.is_heldout).workload
            yield _plot(name, [cell for cell in cells if cell.workload == workload])
        else:
            yield style.Skipped(name, f"no cell of {model} on {target} has cache hit rates")


def _entries(cell: MeasuredCell) -> list[dict]:
    return (experts_of(cell) or {}).get("cache") or []


def _curve(cell: MeasuredCell, policy: str, key: str) -> tuple[list[float], list[float]]:
    points = sorted((e[key], 100 * e["hit_rate"]) for e in _entries(cell) if e["policy"] == policy)
    return [x for x, _ in points], [y for _, y in points]


def _plot(name: str, cells: list[MeasuredCell]) -> style.Plot:
    main = next((cell for cell in cells if cell.weights in FP4_FORMATS), cells[0])
    title = _title(main)
    note = f"{main.model} on {main.target}, workload {main.workload}: recorded routing, replayed."
    figure, axes = canvas.panels(title, [PANEL_IN, PANEL_IN], note=note, left_in=0.75, gap_in=0.85)
    _by_policy(axes[0], main)
    _by_bytes(axes[1], cells)
    for axis in axes:
        axis.set_ylim(0, 104)
        axis.set_ylabel("hit rate, %")
        axis.grid()
        axis.legend(loc="lower right")
    accesses = next((entry.get("num_accesses") for entry in _entries(main)), None)
    caption = (
        "Share of expert accesses that find the expert resident. Belady evicts what is needed last, "
        "knowing the future: no policy can beat it." + (f" n = {grouped(accesses)} accesses." if accesses else "")
    )
    curves = {policy: zip(*_curve(main, policy, "slots_per_layer"), strict=True) for policy in LINES}
    values = "; ".join(
        f"{POLICIES[policy]}: " + ", ".join(f"{slots} slots {rate:.0f} %" for slots, rate in curve)
        for policy, curve in curves.items()
    )
    alt = f"Expert cache hit rate. {note} {main.name}: {values}."
    return style.Plot(name, title, caption, alt, canvas.png(figure))


def _by_policy(axis, cell: MeasuredCell) -> None:
    canvas.panel_title(axis, f"By policy ({cell.name})")
    hue = style.color(cell.weights)
    for policy, (line, marker) in LINES.items():
        xs, ys = _curve(cell, policy, "slots_per_layer")
        if xs:
            axis.plot(xs, ys, line, marker=marker, markersize=5, color=hue, label=POLICIES[policy])
    num_experts = experts_of(cell)["num_experts"]
    axis.set_xlabel(f"experts resident a layer, of {num_experts}")
    slots = sorted({entry["slots_per_layer"] for entry in _entries(cell)})
    axis.set_xticks(slots[:: -(-len(slots) // 16)])


def _by_bytes(axis, cells: list[MeasuredCell]) -> None:
    is_mixed = {cell.weights == "bf16" for cell in cells} == {True, False}
    tail = ": the same budget holds more quantized experts" if is_mixed else ""
    canvas.panel_title(axis, f"LRU by bytes{tail}")
    largest = max(entry["budget_bytes"] for cell in cells for entry in _entries(cell))
    step, unit = next(((s, u) for s, u in BYTE_STEPS if largest >= s), (1, "B"))
    named = {cell.weights: cell for cell in reversed(cells)}
    for cell in cells:
        xs, ys = _curve(cell, "lru", "budget_bytes")
        look = {"marker": MARKERS.get(cell.weights, "x"), "color": style.color(cell.weights)}
        # Bytes are the weights' alone: one name for all methods and activations of a format, whose lines all but coincide.
        label = FORMAT_NAMES.get(cell.weights, cell.weights) if named[cell.weights] is cell else None
        axis.plot([x / step for x in xs], ys, markersize=5, label=label, **look)
    axis.set_xlabel(f"bytes for resident experts, {unit}")
    axis.set_xlim(0, None)


def _title(cell: MeasuredCell) -> str:
    total = experts_of(cell)["num_experts"]
    rates = {p: dict(zip(*_curve(cell, p, "slots_per_layer"), strict=True)) for p in LINES}
    half = min(rates["lru"], key=lambda slots: abs(slots - total / 2), default=None)
    if half is None:
        return "Expert cache hit rate"
    best = f", the optimum {rates['belady'][half]:.0f} %" if half in rates["belady"] else ""
    return f"With {half} of {total} experts a layer resident, LRU hits {rates['lru'][half]:.0f} %{best}"
