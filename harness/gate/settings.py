"""Which gates judge a run: those of its scenario as recorded, else the defaults.

In: a run. Out: GateSpec. Raises RunFolderError where the recorded gates are not what this version knows.
"""

from pydantic import ValidationError

from harness.errors import RunFolderError
from harness.report.data import LoadedRun
from harness.scenario.gates import GateSpec


def gates_of(run: LoadedRun) -> GateSpec:
    """The gates of the candidate: a pull request that loosens its gates shows that in its scenario."""
    found = (run.info.get("scenario") or {}).get("gates")
    if found is None:
        return GateSpec()
    try:
        return GateSpec.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(f"{run.path}/run.json: scenario.gates.{place}: {first['msg']}") from None
