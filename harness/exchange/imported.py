"""Results of other tools as a run's folder, which report, compare and notebooks read like any other.

In: ForeignResults, and what their files do not say (precision, machine). Out: the folder. Results of one (model, workload)
become its repeats, in order. Each record is a WARN that says who measured it, and carries no weights hash and no check.
"""

from dataclasses import dataclass
from pathlib import Path

from harness.collect import tables
from harness.collect.values import measured, missing
from harness.exchange.foreign import ForeignResult
from harness.metrics import METRICS
from harness.precisions import ACTIVATIONS, METHODS, Precision
from harness.record import SCHEMA_VERSION, RunWriter, provenance
from harness.report.plots.style import slug

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Described:
    """What the user adds. Nothing is guessed: what is not said stands as unknown."""

    model: str | None = None
    weights: str = UNKNOWN
    activations: str = UNKNOWN
    target: str = UNKNOWN


def write_run(results: list[ForeignResult], described: Described, folder: Path, files: list[Path]) -> Path:
    """Write the folder; StorageError where it cannot be."""
    records = _records(results, described)
    first = results[0]
    info = {
        "schema_version": SCHEMA_VERSION,
        "run_id": folder.name,
        "scenario_name": f"imported-{first.tool}",
        "scenario": {"name": f"imported-{first.tool}", "description": f"Measured by {first.tool}", "repeats": 1},
        "scenario_sha256": None,
        "started_utc": first.started_utc,
        "finished_utc": results[-1].started_utc,
        "imported": {"tool": first.tool, "files": [path.name for path in files], "imported_utc": provenance.utc_now()},
        "provenance": {"tool": first.tool, "other": [result.other for result in results]},
        "plan": {"cells": [], "dropped": []},
    }
    writer = RunWriter.create(folder, info)
    for record, result in zip(records, results, strict=True):
        if result.requests:
            name = f"samples/{slug(record['cell_id'])}-r{record['repeat']}-requests.parquet"
            record["samples"] = {
                "requests": writer.store(name, lambda path, r=result: tables.write_requests(path, list(r.requests)))
            }
        writer.append(record)
    return folder


def _records(results: list[ForeignResult], described: Described) -> list[dict]:
    seen: dict[str, int] = {}
    records = []
    for result in results:
        record = _record(result, described)
        record["repeat"] = seen.get(record["cell_id"], 0)
        seen[record["cell_id"]] = record["repeat"] + 1
        records.append(record)
    return records


def _record(result: ForeignResult, described: Described) -> dict:
    precision, workload = _precision(described), _workload(result)
    model = described.model or slug(result.model)
    kind = slug(described.target) or UNKNOWN
    failed = f"; {result.num_failed} requests failed" if result.num_failed else ""
    reason = f"measured by {result.tool} with its own definitions and client, not by this harness{failed}"
    return {
        "schema_version": SCHEMA_VERSION,
        "cell_id": "/".join([model, result.tool, precision["id"], workload["name"], kind]),
        "model": model,
        "backend": f"{result.tool}:{result.tool_backend}",
        "precision": precision,
        "workload": workload,
        "target": {"kind": kind, "name": described.target},
        "repeat": 0,
        "status": "ok",
        "error": None,
        "started_utc": result.started_utc or provenance.utc_now(),
        "duration_s": round(result.duration_s, 3),
        "verdict": {"state": "WARN", "reasons": [{"code": "imported", "message": reason}]},
        "implementation": [{"op": "experts", "chosen": "not recorded", "is_reference": False, "refused": []}],
        "check": None,
        "weights": None,
        "metrics": _metrics(result),
        "experts": None,
        "samples": {},
    }


def _metrics(result: ForeignResult) -> dict:
    """What the tool gave; the rest of the request metrics is null with the reason."""
    found = {name: measured(name, value, result.num_completed) for name, value in result.metrics.items()}
    wanted = [name for name, metric in METRICS.items() if metric.unit in ("ms", "tokens/s", "requests/s")]
    return {name: found.get(name) or missing(name, f"not in {result.tool}'s file") for name in wanted} | found


def _workload(result: ForeignResult) -> dict:
    prompt, output = round(result.prompt_tokens), round(result.output_tokens)
    load = result.arrival.get("concurrency") or result.arrival.get("rate_per_s")
    name = f"{prompt}in-{output}out" + (f"-{'c' if 'concurrency' in result.arrival else 'r'}{load:g}" if load else "")
    requests = result.num_completed + result.num_failed
    lengths = {"prompt_tokens": prompt, "output_tokens": output, "num_requests": requests}
    return {"name": name, "kind": "requests", **lengths, "arrival": result.arrival}


def _precision(described: Described) -> dict:
    weights, activations = described.weights, described.activations
    if weights in METHODS and activations in ACTIVATIONS:
        known = Precision(weights, "none", activations)
        return {"id": known.id, "label": known.label, "weights": weights, "method": "none", "activations": activations}
    return {
        "id": slug(weights, activations),
        "label": f"{weights} x {activations}",
        "weights": weights,
        "method": "none",
        "activations": activations,
    }
