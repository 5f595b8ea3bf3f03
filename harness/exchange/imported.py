"""Results of other tools as a run's folder, which report, compare and notebooks read like any other.

In: ForeignResults, and what their files do not say (precision, machine). Out: the folder. Results of one (model, workload)
become its repeats, in order. Each record is a WARN that says who measured it, and carries no weights hash and no check.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from harness.collect import tables
from harness.exchange.definitions import metrics_of, not_comparable
from harness.exchange.foreign import ForeignResult
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
    tool_version: str | None = None
    """Of the tool, where its file does not say."""


def write_run(results: list[ForeignResult], described: Described, folder: Path, files: list[Path]) -> Path:
    """Write the folder; StorageError where it cannot be."""
    results = [replace(result, tool_version=result.tool_version or described.tool_version) for result in results]
    records = _records(results, described)
    first = results[0]
    info = {
        "schema_version": SCHEMA_VERSION,
        "run_id": folder.name,
        "scenario_name": f"imported-{first.tool}",
        "scenario": {
            "name": f"imported-{first.tool}",
            "description": f"Measured by {first.tool}",
            "repeats": 1 + max(record["repeat"] for record in records),
        },
        "scenario_sha256": None,
        "started_utc": first.started_utc,
        "finished_utc": results[-1].started_utc,
        "imported": {
            "tool": first.tool,
            "tool_version": first.tool_version,
            "files": [path.name for path in files],
            "imported_utc": provenance.utc_now(),
            "other": [result.other for result in results],
        },
        "provenance": {"client": _named(first)},
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
    failed = f"; {result.num_failed} of {result.num_completed + result.num_failed} requests failed" if result.num_failed else ""
    reason = f"measured by {_named(result)} with its own definitions and client, not by this harness{failed}"
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
        "metrics": metrics_of(result),
        "experts": None,
        "imported": {"tool": result.tool, "tool_version": result.tool_version, "not_comparable": not_comparable(result)},
        "samples": {},
    }


def _named(result: ForeignResult) -> str:
    return f"{result.tool} {result.tool_version or '(its version is not in the file)'}"


def _workload(result: ForeignResult) -> dict:
    prompt, output = round(result.prompt_tokens), round(result.output_tokens)
    name = f"{prompt}in-{output}out{_suffix(result.arrival)}"
    requests = result.num_completed + result.num_failed
    lengths = {"prompt_tokens": prompt, "output_tokens": output, "num_requests": requests}
    return {"name": name, "kind": "requests", **lengths, "arrival": result.arrival}


def _suffix(arrival: dict) -> str:
    """`-c4` for a closed loop of 4, `-r30-c8` for 30 a second with 8 in flight at most."""
    parts = (("r", arrival.get("rate_per_s")), ("c", arrival.get("concurrency") or arrival.get("max_concurrency")))
    return "".join(f"-{letter}{value:g}" for letter, value in parts if value)


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
