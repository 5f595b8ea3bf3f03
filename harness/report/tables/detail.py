"""Tables of speed, memory and quality in full: a column a metric.

In: variants. Out: Tables grouped by target and model.
"""

from collections.abc import Sequence

from harness.report.cells import REFERENCE_SPEED, MeasuredCell
from harness.report.grid import Entry, Footnotes, Group, Table, spread, table
from harness.report.numbers import grouped, significant, split_quantity
from harness.report.tables.summary import change_entry, group_label, precision_entry
from harness.report.variants import Variant

SPEED = {
    "prefill_throughput": "Prefill",
    "decode_throughput": "Decode",
    "output_throughput": "Output",
    "total_token_throughput": "Total tokens",
    "request_throughput": "Requests",
    "median_ttft_ms": "TTFT median",
    "p99_ttft_ms": "TTFT p99",
    "median_tpot_ms": "TPOT median",
    "p99_tpot_ms": "TPOT p99",
    "median_itl_ms": "ITL median",
    "p99_itl_ms": "ITL p99",
    "median_e2el_ms": "E2E median",
    "p99_e2el_ms": "E2E p99",
}
MEMORY = {
    "expert_codes_bytes": "Expert codes",
    "expert_scales_bytes": "Expert block scales",
    "expert_tensor_scales_bytes": "Expert tensor scales",
    "attention_bytes": "Attention",
    "embedding_bytes": "Embedding",
    "router_bytes": "Router",
    "norm_bytes": "Norm",
    "weight_bytes": "All weights",
    "kv_cache_bytes": "KV cache",
    "activation_peak_bytes": "Activations, peak",
    "process_peak_rss_bytes": "Process, peak RSS",
}
QUALITY = {
    "perplexity": "Perplexity",
    "perplexity_change_pct": "Change",
    "bits_per_byte": "Bits per byte",
    "mean_nll_nats": "Mean NLL",
    "mean_kl_nats": "KL to BF16",
    "top1_agreement_pct": "Top-1 agreement",
    "num_scored_tokens": "Tokens scored",
}


def speed_table(everyone: Sequence[Variant]) -> Table:
    """A row a request cell; the reference implementation is named in each row that it ran."""
    rows = _by_group(everyone, [(variant, cell) for variant in everyone for cell in variant.requests])
    notes = Footnotes()
    groups = [
        Group(
            label,
            tuple((precision_entry(cell), _workload(cell), *(notes.entry(cell.number(m)) for m in SPEED)) for _, cell in found),
        )
        for label, found in rows.items()
    ]
    return table(
        "Speed in full: median over repeats, min–max, n = repeats × samples a repeat.",
        ("Weights × activations", "Workload", *SPEED.values()),
        groups,
        notes,
        folded=True,
    )


def memory_table(everyone: Sequence[Variant]) -> Table:
    """A row a cell: weights are the same in all cells of a precision, KV cache and activations are not."""
    rows = _by_group(everyone, [(variant, cell) for variant in everyone for cell in variant.cells])
    notes = Footnotes()
    groups = [
        Group(
            label,
            tuple(
                (precision_entry(cell), Entry(cell.workload), *(_bytes(cell, m, notes) for m in MEMORY)) for _, cell in found
            ),
        )
        for label, found in rows.items()
    ]
    return table(
        "Memory by cause: median over repeats; min–max where the repeats differ. 1 MB = 10⁶ bytes.",
        ("Weights × activations", "Workload", *MEMORY.values()),
        groups,
        notes,
        folded=True,
    )


def quality_table(everyone: Sequence[Variant]) -> Table:
    """A row a variant, from its heldout cell."""
    notes = Footnotes()
    groups: dict[str, list] = {}
    for variant in everyone:
        entries = [
            change_entry(variant, notes) if m == "perplexity_change_pct" else _quality(variant, m, notes) for m in QUALITY
        ]
        groups.setdefault(group_label(variant, everyone), []).append((precision_entry(variant.head), *entries))
    return table(
        "Quality on the held-out text. The interval of the change is paired by token against BF16.",
        ("Weights × activations", *QUALITY.values()),
        [Group(k, tuple(v)) for k, v in groups.items()],
        notes,
    )


def _by_group(everyone: Sequence[Variant], pairs: list[tuple[Variant, MeasuredCell]]) -> dict[str, list]:
    rows: dict[str, list] = {}
    for variant, cell in pairs:
        rows.setdefault(group_label(variant, everyone), []).append((variant, cell))
    return rows


def _workload(cell: MeasuredCell) -> Entry:
    return Entry(cell.workload, detail=REFERENCE_SPEED if cell.is_reference else "")


def _bytes(cell: MeasuredCell, metric: str, notes: Footnotes) -> Entry:
    number = cell.number(metric)
    differs = number.median is not None and number.low != number.high
    return notes.entry(number, spread(number) if differs else "")


def _quality(variant: Variant, metric: str, notes: Footnotes) -> Entry:
    number = variant.quality(metric)
    if metric == "num_scored_tokens" and number.median is not None:
        return Entry(grouped(number.median), "tokens")
    if number.median is None:
        return notes.dash(number.reason)
    _, unit = split_quantity(number.median, number.unit)
    return Entry(significant(number.median, 4), unit)
