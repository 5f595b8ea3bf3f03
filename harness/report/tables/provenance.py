"""Tables of provenance: kernel choices with refused candidates, definitions of the metrics, machine and software.

In: runs and measured cells; harness.metrics where it is installed. Out: Tables.
"""

import json
from collections.abc import Sequence

from harness.report.cells import FORMAT_NAMES, MeasuredCell
from harness.report.data import LoadedRun
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.numbers import bytes_text, count


def choices_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row an op of each (target, precision): what was chosen, what was refused and why. Equal rows print once."""
    groups: dict[str, dict[tuple, None]] = {}
    for cell in cells:
        for choice in (cell.first.get("implementation") or ()) if cell.records else ():
            refused = "; ".join(f"{item['name']}: {item['reason']}" for item in choice.get("refused") or ())
            note = "not FP4's speed" if choice.get("is_reference") and choice["op"] != "route" else ""
            row = (
                Entry(cell.name, detail=cell.method, tone="head"),
                Entry(choice["op"], tone="code"),
                Entry(choice["chosen"], detail=note),
                Entry(refused or "none refused", tone="" if refused else "muted"),
            )
            groups.setdefault(f"{cell.target} · {cell.model}", {})[row] = None
    return table(
        "The implementation that ran each op, and the candidates passed over.",
        ("Weights × activations", "Op", "Chosen", "Refused, and why"),
        [Group(label, tuple(rows)) for label, rows in groups.items()],
    )


def definitions_table(cells: Sequence[MeasuredCell]) -> Table | None:
    """A row a metric that the records carry; None where harness.metrics is not installed."""
    try:
        from harness.metrics import METRICS
    except ModuleNotFoundError:
        return None
    used = dict.fromkeys(
        name for cell in cells for record in cell.records for name in record.get("metrics") or {}
    )
    rows = []
    for name in used:
        metric = METRICS.get(name)
        if metric is None:
            rows.append(
                (
                    Entry(name, tone="code"),
                    Entry(""),
                    Entry(""),
                    Entry("no definition in harness/metrics.py", tone="muted"),
                )
            )
        else:
            rows.append(
                (
                    Entry(name, tone="code"),
                    Entry(metric.unit),
                    Entry(_direction(metric.direction)),
                    Entry(metric.definition),
                )
            )
    return table(
        "Definition of every metric in these records.",
        ("Metric", "Unit", "Better", "Definition"),
        [Group("", tuple(rows))],
        folded=True,
    )


def _direction(direction: object) -> str:
    return str(getattr(direction, "value", direction) or "").replace("_", " ")


def machines_provenance(runs: Sequence[LoadedRun]) -> Table:
    """A column a run."""
    notes = Footnotes()
    facts = [_facts(run) for run in runs]
    keys = dict.fromkeys(key for found in facts for key in found)
    rows = tuple(
        (
            Entry(key, tone="head"),
            *(Entry(found[key]) if found.get(key) else notes.dash("not recorded") for found in facts),
        )
        for key in keys
    )
    return table("What ran where.", ("", *(run.run_id for run in runs)), [Group("", rows)], notes)


def _facts(run: LoadedRun) -> dict[str, str]:
    source, info = run.provenance, run.info
    cpu = source.get("cpu") or {}
    commit = str(source.get("git_commit") or "")
    dirty = {True: " with uncommitted changes", False: ", clean"}.get(source.get("git_dirty"), "")
    gpus = [
        f"{gpu.get('name')} ({gpu.get('capability')}, {bytes_text(gpu.get('memory_bytes') or 0)})"
        for gpu in source.get("gpus") or ()
    ]
    return {
        "Scenario": f"{run.scenario_name} {str(info.get('scenario_sha256') or '')[:12]}".strip(),
        "Started": str(info.get("started_utc") or ""),
        "Finished": str(info.get("finished_utc") or "not finished"),
        "Git commit": commit and commit[:12] + dirty,
        "Command line": _words(source.get("command_line")),
        "Host": str(source.get("host") or ""),
        "Operating system": str(source.get("os") or ""),
        "CPU": ", ".join(
            filter(
                None,
                (
                    cpu.get("name"),
                    count(cpu["num_cores"], "core") if cpu.get("num_cores") else "",
                    bytes_text(cpu["memory_bytes"]) if cpu.get("memory_bytes") else "",
                ),
            )
        ),
        "GPU": "; ".join(gpus) or "none",
        "Driver": str(source.get("driver") or "none"),
        "Python": str(source.get("python") or ""),
        "Libraries": ", ".join(
            f"{name} {version}" for name, version in (source.get("libraries") or {}).items()
        ),
        "Kernel sources": str(source.get("kernel_sources_sha256") or "")[:12],
        "Seed": _words(source.get("seed")),
        "Models": ", ".join(
            dict.fromkeys(
                f"{r['model']} ({(r.get('weights') or {}).get('source', 'unknown')} weights)"
                for r in run.records
            )
        ),
        "Formats": ", ".join(
            dict.fromkeys(FORMAT_NAMES.get(w, w) for w in (r["precision"]["weights"] for r in run.records))
        ),
    }


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(str(word) for word in value)
    return "" if value is None else str(value)


def scenario_text(run: LoadedRun) -> str:
    """The scenario as resolved, as JSON."""
    return json.dumps(run.info.get("scenario") or {}, indent=2, ensure_ascii=False)
