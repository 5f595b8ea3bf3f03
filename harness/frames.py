"""Runs as pandas tables: one row a cell and repeat, typed columns with the unit in the name.

For notebooks: `harness.load_runs(["results/runs/..."])`. A metric that was not measured is NA, never 0.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.crossovers import names_of

if TYPE_CHECKING:
    import pandas

    from harness.record.read import Run


def load_run(path: str | Path) -> "Run":
    """One run's folder: `.info` (run.json), `.records`. Raises RunFolderError when it cannot be read."""
    from harness.record.read import read_run

    return read_run(path)


def load_runs(paths: Iterable[str | Path]) -> "pandas.DataFrame":
    """All records of several runs as one table.

    Columns: run_id, cell_id, model, backend, weights, method, activations, precision, workload, kind, target, repeat,
    status, verdict, implementation, then one float column a metric, named as in harness.metrics.
    """
    import pandas

    from harness.metrics import METRICS

    rows = [_row(run, record) for run in map(load_run, paths) for record in run.records]
    table = pandas.DataFrame(rows)
    for name in METRICS:
        if name not in table:
            table[name] = None
        table[name] = table[name].astype("Float64")
    return table.convert_dtypes()


def _row(run: "Run", record: dict) -> dict:
    precision, workload = record["precision"], record["workload"]
    return {
        "run_id": run.run_id,
        "cell_id": record["cell_id"],
        "model": record["model"],
        "backend": record["backend"],
        "weights": precision["weights"],
        "method": precision["method"],
        "activations": precision["activations"],
        "precision": precision["label"],
        "workload": workload["name"],
        "kind": workload["kind"],
        "target": record["target"]["name"],
        "repeat": record["repeat"],
        "status": record["status"],
        "verdict": record["verdict"]["state"],
        "implementation": ", ".join(f"{row['op']}={'+'.join(names_of(row))}" for row in record["implementation"]),
    } | {name: metric["value"] for name, metric in record["metrics"].items()}
