"""One side of an A/B comparison: a process that measures with the sources on its PYTHONPATH, one repeat when asked.

    PYTHONPATH=<commit>:<commit>/kernels python -P side.py        (this file, whatever commit it drives)

in   (one JSON object a line)  {"command": "prepare", "scenario": {...}, "only", "folder", "run_id", "partner"}
                               {"command": "measure", "cell_id": str, "repeat": int}
                               {"command": "release" | "finish" | "exit"}
out                            {"result": ...} or {"error": {"kind", "message", "exit_code"}}

Everything but this file comes from the commit: its scenario schema, its plan, its worker, its record. So two commits
need not agree on how a parent talks to a worker. A worker stays loaded until another group of cells is asked for or
"release" is. What a library prints goes to standard error.
"""

import json
import os
import sys
import time
from pathlib import Path


class Side:
    """The commands; state between them is the plan and the loaded group."""

    def __init__(self) -> None:
        self.prepared = self.writer = self.group = self.generator = None
        self.wanted: list = []
        self.cells: dict = {}

    def prepare(self, *, scenario: dict, only: str | None, folder: str, run_id: str, partner: str) -> dict:
        """Plan, and start the run's folder. Keys of the scenario that this commit does not know are left out, named."""
        from harness import device
        from harness.record import SCHEMA_VERSION, RunWriter, provenance
        from harness.run.folder import scenario_sha256
        from harness.run.prepare import prepare
        from harness.run.records import plan_block
        from harness.scenario.schema import Scenario

        unknown = sorted(set(scenario) - set(Scenario.model_fields))
        resolved = Scenario.model_validate({key: value for key, value in scenario.items() if key not in unknown})
        self.prepared = prepare(resolved, device.detect(), only=only)
        self.cells = {cell.cell_id: cell for cell in self.prepared.plan.cells}
        info = {
            "schema_version": SCHEMA_VERSION,
            "run_id": run_id,
            "scenario_name": resolved.name,
            "scenario": resolved.model_dump(mode="json"),
            "scenario_sha256": scenario_sha256(resolved),
            "started_utc": provenance.utc_now(),
            "finished_utc": None,
            "interleaved": {"with": partner},
            "provenance": provenance.collect(["harness", "gate"], resolved.seed),
            "plan": plan_block(self.prepared),
        }
        self.writer = RunWriter.create(Path(folder), info)
        return {"cells": [self._row(cell) for cell in self.cells.values()], "unknown_keys": unknown, "info": info}

    def measure(self, *, cell_id: str, repeat: int) -> dict:
        """One repeat of one cell, recorded; gives the record."""
        from harness.record import provenance
        from harness.run.records import make_record

        cell = self.cells[cell_id]
        if cell.group != self.group:
            self.release()
            self.group = cell.group
        self.wanted.append((cell, repeat))
        started_utc, started = provenance.utc_now(), time.monotonic()
        measurement = next(self._measurements())
        duration_s = time.monotonic() - started
        record = make_record(measurement, self.prepared, started_utc=started_utc, duration_s=duration_s)
        self.writer.append(record)
        return record

    def release(self) -> dict:
        """End the loaded worker, if there is one."""
        if self.generator is not None:
            self.generator.close()
        self.generator = self.group = None
        return {}

    def finish(self) -> dict:
        """End the worker and mark the run as finished."""
        from harness.record import provenance, read_run

        self.release()
        self.writer.write_info(read_run(self.writer.folder).info | {"finished_utc": provenance.utc_now()})
        return {}

    def _measurements(self):
        """The group's generator, which takes its work from `wanted` when it is asked for the next."""
        from harness.run.group import measure_group

        if self.generator is None:
            work = iter(lambda: self.wanted.pop(0) if self.wanted else None, None)
            self.generator = measure_group(work, self.prepared, str(self.writer.folder), lambda *told: None)
        return self.generator

    def _row(self, cell) -> dict:
        facts_of = getattr(self.prepared, "facts_of", None)  # commits from before there were other backends have it not
        facts = facts_of(cell) if facts_of else self.prepared.facts[(cell.model, cell.precision.id)]
        return {
            "cell_id": cell.cell_id,
            "group": list(cell.group),
            "is_quality": cell.is_quality,
            "memory_bytes": sum(facts.memory_bytes.values()),
            "free_bytes": self.prepared.device.free_bytes,
        }


def main() -> None:
    """Serve commands until `exit` or the parent is gone."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    side = Side()
    try:
        for line in sys.stdin:
            message = json.loads(line)
            command = message.pop("command")
            if command == "exit":
                break
            answers.write(json.dumps(_answer(side, command, message)) + "\n")
            answers.flush()
    finally:
        side.release()


def _answer(side: Side, command: str, arguments: dict) -> dict:
    try:
        return {"result": getattr(side, command)(**arguments)}
    except Exception as error:  # the boundary of the process: whatever it was, the parent must hear of it
        kind = type(error).__name__
        return {"error": {"kind": kind, "message": str(error) or kind, "exit_code": getattr(error, "exit_code", None)}}


if __name__ == "__main__":
    main()
