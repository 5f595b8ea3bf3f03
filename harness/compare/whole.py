"""Whether a run is all there: a torn last line, cells planned and not run, a run that was not finished.

In: a run. Out: sentences, each naming the run. `read_run` itself refuses damage anywhere but in the last line.
"""

from harness.record.read import records_bytes
from harness.record.write import RECORDS
from harness.report.data import LoadedRun
from harness.report.numbers import count


def notes_on(run: LoadedRun) -> list[str]:
    """What a reader must know before trusting that nothing is missing."""
    notes = []
    if is_torn(run):
        notes.append(f"{run.run_id}: the last line of {RECORDS} is cut off; that record is left out")
    missing = missing_repeats(run)
    if missing:
        shown = "; ".join(f"{cell_id} ({count(number, 'repeat')})" for cell_id, number in list(missing.items())[:4])
        more = f" and {len(missing) - 4} more cells" if len(missing) > 4 else ""
        notes.append(f"{run.run_id}: not finished, these are missing: {shown}{more}")
    if "imported" in run.info:
        notes.append(
            f"{run.run_id}: {run.info['imported']['tool']}'s file names no machine, clocks or libraries, so none are compared"
        )
    return notes


def is_torn(run: LoadedRun) -> bool:
    """Whether records.jsonl ends inside a line."""
    path = run.path / RECORDS
    if not path.is_file():
        return records_bytes(path)[-1:] not in (b"", b"\n")
    with path.open("rb") as file:
        file.seek(-min(1, path.stat().st_size), 2)
        return file.read(1) not in (b"", b"\n")


def missing_repeats(run: LoadedRun) -> dict[str, int]:
    """Cell id -> repeats that were planned and have no record."""
    wanted = (run.info.get("scenario") or {}).get("repeats")
    have: dict[str, set[int]] = {}
    for record in run.records:
        have.setdefault(record["cell_id"], set()).add(record["repeat"])
    missing = {}
    for cell in run.plan.get("cells") or ():
        planned = 1 if (cell.get("workload") or {}).get("kind") == "heldout" else wanted or 1
        left = planned - len(have.get(cell["cell_id"], ()))
        if left > 0:
            missing[cell["cell_id"]] = left
    return missing
