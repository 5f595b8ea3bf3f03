"""The process that is profiled: `python -m harness.profile.target JOB.json` loads one (model, precision) and makes its passes.

In: a job file. Out: `result.json` beside it, written last, so that its absence means the process did not end well; an error
goes there too, with its kind. It needs no pipe to its parent: under nsys it is nsys's child.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from harness.backends import open_backend
from harness.worker.__main__ import describe

RESULT = "result.json"


def main() -> int:
    """0 with a result, 1 with an error in the result."""
    job_path = Path(sys.argv[1])
    job = json.loads(job_path.read_text(encoding="utf-8"))
    backend = open_backend(job["backend"])
    try:
        loaded = backend.load(progress=_tell, **job["load"])
        result = backend.profile(progress=_tell, **job["profile"])
        _write(job_path.parent, {"loaded": loaded, "result": result})
    except Exception as error:  # the boundary of the process: whatever it was, the parent must hear of it
        traceback.print_exc()
        _write(job_path.parent, {"error": describe(error, backend)})
        return 1
    return 0


def _tell(done: int, total: int, what: str) -> None:
    print(f"{what} {done}/{total}", file=sys.stderr, flush=True)


def _write(folder: Path, answer: dict) -> None:
    part = folder / f".{RESULT}.part"
    part.write_text(json.dumps(answer), encoding="utf-8")
    os.replace(part, folder / RESULT)


if __name__ == "__main__":
    sys.exit(main())
