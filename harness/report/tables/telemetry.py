"""Table of telemetry: power, energy a token, utilisation, clocks, temperature, throttling, memory in use.

In: measured cells. Out: a Table, a row a cell with requests; empty where no record has telemetry. A dash points at its reason.
"""

from collections.abc import Sequence

from harness.metrics.telemetry import TELEMETRY
from harness.report.cells import REFERENCE_SPEED, MeasuredCell
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.tables.summary import precision_entry

HEADERS = {
    "mean_power_w": "Power",
    "joules_per_token": "Energy a token",
    "tokens_per_joule": "Tokens a joule",
    "mean_gpu_utilization_pct": "GPU utilisation",
    "utilization_x_throughput": "Utilisation × throughput",
    "median_sm_clock_mhz": "SM clock",
    "min_sm_clock_mhz": "Lowest SM clock",
    "max_temperature_c": "Temperature",
    "throttled_pct": "Throttled",
    "peak_device_memory_bytes": "Device memory",
    "mean_cpu_utilization_pct": "CPU utilisation",
}


def telemetry_table(cells: Sequence[MeasuredCell]) -> Table:
    """Columns that no cell has are left out, so that a CPU's table is small."""
    ours = [cell for cell in cells if not cell.is_heldout and any(_has(record) for record in cell.records)]
    shown = [name for name in HEADERS if any(cell.number(name).median is not None for cell in ours)]
    notes = Footnotes()
    groups: dict[str, list] = {}
    for cell in ours:
        workload = Entry(cell.workload, detail=REFERENCE_SPEED if cell.is_reference else "")
        row = (precision_entry(cell), workload, *(notes.entry(cell.number(name)) for name in shown))
        groups.setdefault(f"{cell.target} · {cell.model}", []).append(row)
    return table(
        "Telemetry while requests ran: median over repeats, min–max, n = repeats × readings a repeat.",
        ("Weights × activations", "Workload", *(HEADERS[name] for name in shown)),
        [Group(name, tuple(rows)) for name, rows in groups.items()] if shown else [],
        notes,
        folded=True,
    )


def _has(record: dict) -> bool:
    return any(metric.name in (record.get("metrics") or {}) for metric in TELEMETRY)
