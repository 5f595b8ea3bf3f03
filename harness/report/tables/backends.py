"""Tables for runs with several backends: the same question answered by each, and what each engine decided for itself.

In: variants. Out: Tables, or None with one backend. A column a backend; native is the one that others are held against:
speed as a ratio, perplexity as a change paired by token, greedy answers by the tokens before the first that differs.
"""

from collections.abc import Sequence

from harness.agreement import VS_NATIVE
from harness.crossovers import names_of, show_crossovers
from harness.quality import NATIVE
from harness.report.cells import REFERENCE_SPEED, MeasuredCell, Number
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.numbers import quantity, signed, significant
from harness.report.tables.summary import precision_entry
from harness.report.variants import Variant

SHA_SHOWN = 8


def backends_table(everyone: Sequence[Variant]) -> Table | None:
    """A row a (precision, workload), a group a (target, model)."""
    names = list(dict.fromkeys(variant.head.backend for variant in everyone))
    if len(names) < 2:
        return None
    names.sort(key=lambda name: name != NATIVE)
    notes = Footnotes()
    groups: dict[str, dict[tuple, dict[str, MeasuredCell]]] = {}
    for variant in everyone:
        for cell in variant.cells:
            rows = groups.setdefault(f"{cell.target} · {cell.model}", {})
            rows.setdefault((cell.name, cell.method, cell.workload), {})[cell.backend] = cell
    filled = [Group(label, tuple(_row(found, names, notes) for found in rows.values())) for label, rows in groups.items()]
    return table(
        "The same requests and the same text through each backend. Below a speed: median time to first token, the ratio to "
        "native, and greedy agreement (tokens before the first that differs from native's). Below a perplexity: its difference "
        "from native's in the same precision, paired by token. The same hash of codes and scales is the same weights.",
        ("Weights × activations", "Workload", *names),
        filled,
        notes,
    )


def _row(found: dict[str, MeasuredCell], names: list[str], notes: Footnotes) -> tuple[Entry, ...]:
    some = next(iter(found.values()))
    native = found.get(NATIVE)
    return (
        precision_entry(some),
        Entry(some.workload),
        *(_entry(found[name], native, notes) if name in found else notes.dash(_why_absent(some, name)) for name in names),
    )


def _entry(cell: MeasuredCell, native: MeasuredCell | None, notes: Footnotes) -> Entry:
    if cell.is_heldout:
        return _quality_entry(cell, notes)
    speed = cell.number("output_throughput")
    if speed.median is None:
        return notes.dash(speed.reason)
    parts = [_shown("TTFT", cell.number("median_ttft_ms")), _ratio(speed, native, cell), _agreement(cell)]
    parts += [REFERENCE_SPEED] if cell.is_reference else []
    return notes.entry(speed, "; ".join(part for part in [*parts, _state(cell)] if part))


def _quality_entry(cell: MeasuredCell, notes: Footnotes) -> Entry:
    perplexity, change = cell.number("perplexity"), cell.number(VS_NATIVE)
    if perplexity.median is None:
        return notes.dash(perplexity.reason)
    weights = (cell.first.get("weights") or {}).get("sha256")
    parts = [
        "" if change.median is None else f"{signed(change.median, 2)} % against native",
        _shown("top-1", cell.number("top1_agreement_pct")),
        f"weights {weights[:SHA_SHOWN]}" if weights else "",
        _state(cell),
    ]
    return Entry(significant(perplexity.median, 5), detail="; ".join(part for part in parts if part))


def _ratio(speed: Number, native: MeasuredCell | None, cell: MeasuredCell) -> str:
    base = native.number("output_throughput").median if native is not None and native is not cell else None
    return f"{speed.median / base:.2f} × native" if base else ""


def _agreement(cell: MeasuredCell) -> str:
    agreement = cell.number("greedy_agreement_pct").median
    return "" if agreement is None else f"greedy {agreement:.0f} %"


def _shown(name: str, number: Number) -> str:
    return "" if number.median is None else f"{name} {quantity(number.median, number.unit)}"


def _state(cell: MeasuredCell) -> str:
    return "" if cell.state == "VALID" else cell.state


def _why_absent(some: MeasuredCell, backend: str) -> str:
    """The plan's reason for a cell that was not run."""
    for drop in some.run.plan.get("dropped") or ():
        same = drop["backend"] == backend and drop["model"] == some.model and drop["precision"]["id"] == some.precision["id"]
        if same and drop["workload"]["name"] == some.workload:
            return drop["reason"]
    return f"not asked of {backend}"


def engines_table(cells: Sequence[MeasuredCell]) -> Table:
    """What each engine decided, a row a (model, backend, precision); of ours, what its records say of it."""
    groups: dict[str, dict[tuple[Entry, ...], list[MeasuredCell]]] = {}
    for cell in cells:
        engine = cell.first.get("engine")
        if engine is not None:
            rows = groups.setdefault(f"{cell.target} · {cell.model}", {})
            rows.setdefault(_engine_row(cell, engine), []).append(cell)
    return table(
        "What each engine decided, from its own log and answers; candidates passed over with its reason. KV cache: blocks, or "
        "bytes over the workloads.",
        ("Weights × activations", "Backend", "MoE", "Attention", "KV cache", "Weights", "Arguments"),
        [Group(label, tuple(_with_cache(row, found) for row, found in rows.items())) for label, rows in groups.items()],
    )


def _engine_row(cell: MeasuredCell, engine: dict) -> tuple[Entry, ...]:
    """Everything but the KV cache, which differs from workload to workload."""
    version = f"{engine['name']} {engine.get('version') or ''}".strip()
    weights = cell.first.get("weights") or {}
    sha = (weights.get("sha256") or "not hashed")[:10]
    arguments = ", ".join(f"{name}={value}" for name, value in (engine.get("args") or {}).items())
    return (
        precision_entry(cell),
        Entry(cell.backend, detail=version),
        _moe(cell, engine.get("moe")),
        _choice(engine.get("attention")),
        Entry(weights.get("layout") or weights.get("source") or "not told", detail=sha),
        Entry(arguments or "none told", tone="text"),
    )


def _with_cache(row: tuple[Entry, ...], cells: list[MeasuredCell]) -> tuple[Entry, ...]:
    return (*row[:4], _cache(cells), *row[4:])


def _moe(cell: MeasuredCell, choice: dict | None) -> Entry:
    """The engine's own word, else the implementation of the record, by tokens of a call."""
    if choice and choice.get("chosen"):
        return _choice(choice)
    found = [row for row in cell.first.get("implementation") or () if row["op"] == "experts"]
    if not found:
        return Entry("not told", tone="muted")
    row = found[0]
    by_tokens = "by tokens of a call" if len(names_of(row)) > 1 else ""
    layout = f"layout {row['layout']}" if row.get("layout") else ""
    return Entry(show_crossovers(row), detail="; ".join(part for part in (by_tokens, layout, row.get("source")) if part))


def _choice(choice: dict | None) -> Entry:
    if not choice or not choice.get("chosen"):
        return Entry("not told", tone="muted")
    passed_over = "; ".join(f"{item['name']}: {item['reason']}" for item in choice["passed_over"])
    candidates = f"of {', '.join(choice['candidates'])}" if choice["candidates"] else ""
    return Entry(choice["chosen"], detail="; ".join(part for part in (candidates, passed_over) if part))


def _cache(cells: list[MeasuredCell]) -> Entry:
    """Blocks where the engine counts them, else the bytes that the records have, least to most over the workloads."""
    cache = (cells[0].first.get("engine") or {}).get("kv_cache") or {}
    if cache.get("num_blocks"):
        return Entry(f"{cache['num_blocks']} × {cache['block_tokens']} tokens", detail=cache.get("dtype") or "")
    sizes = [size for cell in cells if (size := cell.number("kv_cache_bytes").median) is not None]
    detail = ", ".join(part for part in (cache.get("dtype"), cache.get("layout")) if part)
    if not sizes:
        return Entry(detail or "not told", tone="" if detail else "muted")
    low, high = quantity(min(sizes), "bytes"), quantity(max(sizes), "bytes")
    return Entry(low if low == high else f"{low} to {high}", detail=detail)
