"""The steps of a GitHub workflow as plain scripts: what the runner does for them, and nothing of GitHub.

In: a workflow file, a checkout, an event. Out: a result a step. `${{ ... }}` is replaced from a table of the expressions
that the workflow uses; an expression that is not in it fails the test.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

TIME_LIMIT_S = 840
"""A gate takes a minute on two idle cores, and as many more as others use them."""
GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$GH_LOG"
case "$*" in *--paginate*) test -f "$GH_EXISTING" && cat "$GH_EXISTING" ;; esac
exit 0
"""


@dataclass
class Runner:
    """Runs the steps of one job in order, as `bash -e`, with the files that GitHub gives them."""

    checkout: Path
    work: Path
    expressions: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bin = self.work / "bin"
        self.bin.mkdir(parents=True)
        self._tool("harness", f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
        self._tool("make", '#!/bin/sh\necho "make $*" >> "$GH_LOG"\n')
        self._tool("gh", GH)

    def _tool(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.checkout), str(self.checkout / "kernels")])
        files = {name: str(self.work / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")}
        return (
            os.environ
            | files
            | {
                "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": path,
                "OMP_NUM_THREADS": "1",
                "GITHUB_ACTIONS": "true",
                "GITHUB_REPOSITORY": "owner/name",
                "GH_LOG": str(self.work / "gh.log"),
                "GH_EXISTING": str(self.work / "existing"),
            }
        )

    def run(self, job: dict, step: dict) -> subprocess.CompletedProcess:
        """One step's script."""
        given = {key: self._filled(str(value)) for key, value in {**job.get("env", {}), **step.get("env", {})}.items()}
        script = self._filled(step["run"])
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        options = {"cwd": self.checkout, "env": self.environment() | given, "capture_output": True, "text": True}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=TIME_LIMIT_S, **options)
        output = self.work / "github_output"
        if output.exists():
            lines = (line.partition("=") for line in output.read_text().splitlines())
            self.outputs |= {f"steps.{step['id']}.outputs.{key}": value for key, _, value in lines}
            output.unlink()
        return done

    def _filled(self, text: str) -> str:
        known = self.expressions | self.outputs
        return re.sub(r"\$\{\{\s*(.+?)\s*\}\}", lambda match: known[match.group(1)], text)

    def read(self, name: str) -> str:
        path = self.work / name
        return path.read_text() if path.exists() else ""


def scripts(path: Path) -> tuple[dict, dict[str, dict]]:
    """(the job, its steps with a script by id)."""
    (job,) = yaml.safe_load(path.read_text())["jobs"].values()
    return job, {step["id"]: step for step in job["steps"] if "run" in step}
