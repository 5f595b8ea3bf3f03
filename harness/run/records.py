"""A Measurement as a record: the dictionary that becomes one line of records.jsonl (schema version 1)."""

from harness.plan import Cell
from harness.record import SCHEMA_VERSION
from harness.run.group import Measurement
from harness.run.prepare import Prepared


def precision_block(cell: Cell) -> dict:
    """Precision with the id and the label that tables print."""
    precision = cell.precision
    return {
        "id": precision.id,
        "label": precision.label,
        "weights": precision.weights,
        "method": precision.method,
        "activations": precision.activations,
    }


def workload_block(cell: Cell) -> dict:
    """The workload's spec with its kind."""
    kind = "heldout" if cell.is_quality else "requests"
    return {"name": cell.workload_name, "kind": kind} | cell.workload.model_dump(mode="json")


def make_record(measurement: Measurement, prepared: Prepared, *, started_utc: str, duration_s: float) -> dict:
    """One record. A failed one carries the error and no metric."""
    cell = measurement.cell
    facts = prepared.facts_of(cell)
    loaded, result, failure = measurement.loaded or {}, measurement.result or {}, measurement.failure
    error = None if failure is None else {"kind": failure.kind, "message": str(failure)}
    failed = {"state": "INVALID", "reasons": [{"code": "failed", "message": str(failure)}]}
    return {
        "schema_version": SCHEMA_VERSION,
        "cell_id": cell.cell_id,
        "model": cell.model,
        "backend": cell.backend,
        "precision": precision_block(cell),
        "workload": workload_block(cell),
        "target": {"kind": prepared.device.slug, "name": prepared.device.name},
        "repeat": measurement.repeat,
        "status": "ok" if failure is None else "failed",
        "error": error,
        "started_utc": started_utc,
        "duration_s": round(duration_s, 3),
        "verdict": result.get("verdict", failed),
        "implementation": loaded.get("implementation", list(facts.choices)),
        "check": loaded.get("check"),
        "weights": loaded.get("weights"),
        "metrics": result.get("metrics", {}),
        "predicted_memory_bytes": result.get("predicted_memory_bytes") or dict(facts.memory_bytes),
        "experts": result.get("experts"),
        "samples": result.get("samples", {}),
        "engine": result.get("engine") or loaded.get("engine"),
        "load": result.get("load"),
        "sweep": result.get("sweep"),
    }


def plan_block(prepared: Prepared) -> dict:
    """The plan as it stands in run.json."""
    return {
        "cells": [_cell_row(cell) for cell in prepared.plan.cells],
        "dropped": [_cell_row(item.cell) | {"reason": item.reason} for item in prepared.plan.dropped],
    }


def _cell_row(cell: Cell) -> dict:
    return {
        "cell_id": cell.cell_id,
        "model": cell.model,
        "backend": cell.backend,
        "precision": precision_block(cell),
        "workload": workload_block(cell),
        "target": cell.target,
    }
