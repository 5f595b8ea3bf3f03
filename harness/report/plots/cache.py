"""Plot of the expert cache: hit rate against slots a layer under each policy, and against bytes under LRU by precision.

In: measured cells with an `experts.cache` entry. Out: Plot, a figure a (target, model), from the first request workload that has one.
"""

from collections.abc import Iterator, Sequence

from harness.report.cells import MeasuredCell
from harness.report.numbers import BYTE_STEPS, significant
from harness.report.plots import style
from harness.report.tables.experts import POLICIES, experts_of
from harness.report.variants import Variant

LINES = {"belady": (":", "^"), "lru": ("-", "o"), "lfu": ("--", "s")}


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    for target, model in dict.fromkeys((v.head.target, v.head.model) for v in everyone):
        cells = [
            c
            for v in everyone
            if (v.head.target, v.head.model) == (target, model)
            for c in v.cells
            if _entries(c)
        ]
        name = style.slug("expert-cache", model, target)
        if not cells:
            yield style.Skipped(name, f"no cell of {model} on {target} has cache hit rates")
            continue
        workload = min(cells, key=lambda cell: cell.is_heldout).workload
        yield _plot(name, [cell for cell in cells if cell.workload == workload])


def _entries(cell: MeasuredCell) -> list[dict]:
    return (experts_of(cell) or {}).get("cache") or []


def _curve(cell: MeasuredCell, policy: str, key: str) -> tuple[list[float], list[float]]:
    points = sorted(
        (entry[key], 100 * entry["hit_rate"]) for entry in _entries(cell) if entry["policy"] == policy
    )
    return [x for x, _ in points], [y for _, y in points]


def _plot(name: str, cells: list[MeasuredCell]) -> style.Plot:
    main = next((cell for cell in cells if cell.weights in ("nvfp4", "mxfp4")), cells[0])
    title = _title(main)
    note = f"{main.model} on {main.target}, workload {main.workload}: recorded routing, replayed."
    figure, (by_slots, by_bytes) = style.panels(title, [2.3, 2.3], note=note, left_in=0.75, gap_in=0.85)
    style.panel_title(by_slots, f"By policy ({main.name})")
    for policy, (line, marker) in LINES.items():
        xs, ys = _curve(main, policy, "slots_per_layer")
        if xs:
            by_slots.plot(
                xs,
                ys,
                line,
                marker=marker,
                markersize=5,
                color=style.color(main.weights),
                label=POLICIES[policy],
            )
    by_slots.set_xlabel(f"experts resident a layer, of {experts_of(main)['num_experts']}")
    by_slots.set_xticks(sorted({entry["slots_per_layer"] for entry in _entries(main)}))
    mixed = {cell.weights == "bf16" for cell in cells} == {True, False}
    style.panel_title(
        by_bytes, "LRU by bytes" + (": the same budget holds more quantized experts" if mixed else "")
    )
    largest = max(entry["budget_bytes"] for cell in cells for entry in _entries(cell))
    step, unit = next(((s, u) for s, u in BYTE_STEPS if largest >= s), (1, "B"))
    for cell in cells:
        xs, ys = _curve(cell, "lru", "budget_bytes")
        marker = {"bf16": "s", "nvfp4": "o", "mxfp4": "^"}.get(cell.weights, "D")
        by_bytes.plot(
            [x / step for x in xs],
            ys,
            marker=marker,
            markersize=5,
            color=style.color(cell.weights),
            label=cell.name,
        )
    by_bytes.set_xlabel(f"bytes for resident experts, {unit}")
    by_bytes.set_xlim(0, None)
    for axis in (by_slots, by_bytes):
        axis.set_ylim(0, 104)
        axis.set_ylabel("hit rate, %")
        axis.grid()
        axis.legend(loc="lower right")
    accesses = next((entry.get("num_accesses") for entry in _entries(main)), None)
    caption = (
        "Share of expert accesses that find the expert resident. Belady evicts what is needed last, knowing the future: the "
        "optimum." + (f" n = {significant(accesses)} accesses." if accesses else "")
    )
    alt = "; ".join(
        f"{POLICIES[p]}: "
        + ", ".join(f"{x} slots {y:.0f} %" for x, y in zip(*_curve(main, p, "slots_per_layer"), strict=True))
        for p in LINES
    )
    return style.Plot(name, title, caption, f"Expert cache hit rate, {note} {alt}.", style.png(figure))


def _title(cell: MeasuredCell) -> str:
    experts = experts_of(cell)
    rates = {p: dict(zip(*_curve(cell, p, "slots_per_layer"), strict=True)) for p in LINES}
    half = min(rates["lru"], key=lambda slots: abs(slots - experts["num_experts"] / 2), default=None)
    if half is None:
        return "Expert cache hit rate"
    tail = f", the optimum {rates['belady'][half]:.0f} %" if half in rates["belady"] else ""
    return f"With {half} of {experts['num_experts']} experts a layer resident, LRU hits {rates['lru'][half]:.0f} %{tail}"
