"""Tables of requests under load: what was asked, what came, what the client itself cost; and each rate of a sweep.

In: measured cells, of which those with a `load` block count. Out: Tables grouped by target, model and backend.
"""

from collections.abc import Sequence

from harness.report.cells import MeasuredCell
from harness.report.grid import Entry, Footnotes, Group, Table, spread, table
from harness.report.numbers import grouped, quantity
from harness.report.tables.summary import precision_entry

LOAD = {
    "offered_rate": "Offered",
    "request_throughput": "Answered",
    "steady_request_throughput": "In the steady window",
    "request_goodput": "Goodput",
    "slo_attainment_pct": "Within the SLO",
    "failed_pct": "Failed",
    "p90_queue_ms": "Queue p90",
}
CLIENT = {
    "p90_send_lag_ms": "Sent late, p90",
    "p90_connect_ms": "Connecting p90",
    "p99_loop_lag_ms": "Loop lag p99",
    "client_parse_us": "Parsing a chunk",
    "client_cpu_pct": "CPU",
    "client_peak_rss_bytes": "Memory",
}
SWEEP = {
    "offered_rate": "Offered",
    "steady_request_throughput": "In the steady window",
    "request_goodput": "Goodput",
    "slo_attainment_pct": "Within the SLO",
    "median_ttft_ms": "TTFT median",
    "p99_ttft_ms": "TTFT p99",
    "median_tpot_ms": "TPOT median",
    "p99_tpot_ms": "TPOT p99",
}


def load_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row a request cell that has a load block."""
    notes = Footnotes()
    groups = _grouped(cells, lambda cell: _load_row(cell, notes) if _load_of(cell) else None)
    return table(
        "Requests a second asked for and answered. Steady window: start-up cut by MSER-5, a closed loop's first and last "
        "round left out. Goodput: answered within every limit of the SLO. Queue: wait for a slot under the cap.",
        ("Weights × activations", "Workload", "Requests", *LOAD.values()),
        groups,
        notes,
    )


def client_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row a cell that the load client measured."""
    notes = Footnotes()

    def row(cell: MeasuredCell):
        if cell.number("client_cpu_pct").median is None:
            return None
        return (precision_entry(cell), Entry(cell.workload), *(notes.entry(cell.number(name), "") for name in CLIENT))

    return table(
        "What the load client itself cost, and how late it was: its times are as good as these.",
        ("Weights × activations", "Workload", *CLIENT.values()),
        _grouped(cells, row),
        notes,
    )


def sweep_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row a rate; a group a cell. The first repeat's sweep."""
    groups, notes = [], Footnotes()
    for cell in cells:
        rows = sweep_of(cell)
        if rows:
            label = f"{cell.target} · {cell.model} · {cell.backend} · {cell.name} · {cell.workload}: {_limits(cell)}"
            groups.append(Group(label, tuple(_sweep_row(row, notes) for row in rows)))
    return table(
        "Each rate of a sweep. It goes up until the SLO is missed and throughput no longer follows, then halves the gap.",
        ("Rate asked for", "SLO", "Follows", *SWEEP.values()),
        groups,
        notes,
    )


def sweep_of(cell: MeasuredCell) -> list[dict]:
    """The rates of a cell's sweep, empty where it has none."""
    return (cell.records[0].get("sweep") or []) if cell.records else []


def _load_of(cell: MeasuredCell) -> dict | None:
    return cell.records[0].get("load") if cell.records else None


def _load_row(cell: MeasuredCell, notes: Footnotes) -> tuple[Entry, ...]:
    load = _load_of(cell)
    loop = f"{load['loop']} loop" + (f", {load['concurrency']} in flight" if load.get("concurrency") else "")
    requests = Entry(grouped(load["num_planned"]), detail=loop)
    figures = (_figure(cell, name, load, notes) for name in LOAD)
    return (precision_entry(cell), Entry(cell.workload), requests, *figures)


def _figure(cell: MeasuredCell, name: str, load: dict, notes: Footnotes) -> Entry:
    number = cell.number(name)
    window = load["window"]
    if name == "steady_request_throughput" and number.median is not None and window["start_s"] is not None:
        return notes.entry(number, f"{window['start_s']:.1f}–{window['end_s']:.1f} s, {window['num_requests']} requests")
    if name == "failed_pct" and number.median:
        kinds = ", ".join(f"{row['count']} {kind}" for kind, row in load["failures"].items())
        return notes.entry(number, kinds or f"{load['num_not_sent']} not sent")
    return notes.entry(number, spread(number) if number.has_spread else "")


def _sweep_row(row: dict, notes: Footnotes) -> tuple[Entry, ...]:
    marks = (Entry("met", tone="valid") if row["attains_slo"] else Entry("missed", tone="invalid"), _yes(row["keeps_up"]))
    return (Entry(f"{row['rate_per_s']:.3g}", "/s"), *marks, *(_cell(row["metrics"].get(name), notes) for name in SWEEP))


def _yes(value: bool) -> Entry:
    return Entry("yes" if value else "no", tone="" if value else "muted")


def _cell(metric: dict | None, notes: Footnotes) -> Entry:
    if metric is None or metric["value"] is None:
        return notes.dash((metric or {}).get("reason"))
    return Entry(quantity(metric["value"], metric["unit"]))


def _limits(cell: MeasuredCell) -> str:
    slo = cell.first["workload"].get("slo") or {}
    names = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "e2el_ms": "E2E"}
    limits = " and ".join(f"{label} ≤ {slo[key]:g} ms" for key, label in names.items() if slo.get(key))
    return f"{limits} for {slo.get('attainment_pct', 99):g} % of the requests"


def _grouped(cells: Sequence[MeasuredCell], row_of) -> list[Group]:
    groups: dict[str, list] = {}
    for cell in cells:
        row = None if cell.is_heldout or not cell.records else row_of(cell)
        if row is not None:
            groups.setdefault(f"{cell.target} · {cell.model} · {cell.backend}", []).append(row)
    return [Group(label, tuple(rows)) for label, rows in groups.items()]
