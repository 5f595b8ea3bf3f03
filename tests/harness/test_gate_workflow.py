"""The ready-made workflow, step by step, on a pull request that plants a slow kernel choice: caught end to end."""

import json
import subprocess
from xml.etree import ElementTree

import pytest

from planted import ROOT, copy_checkout, git, plant_slow_kernel
from workflow import Runner, scripts

WORKFLOW = ROOT / ".github" / "workflows" / "perf-gate.yml"
ORDER = ["install", "gate", "summary", "comment", "verdict"]


def runner_for(tmp_path, checkout, base) -> Runner:
    expressions = {
        "github.event.pull_request.base.sha": base,
        "github.event.pull_request.number": "17",
        "github.token": "none",
        "steps.gate.outputs.code": "",
    }
    return Runner(checkout, tmp_path / "work", expressions)


def test_every_step_is_a_valid_script_in_the_documented_order():
    _, steps = scripts(WORKFLOW)
    assert list(steps) == ORDER
    for step in steps.values():
        subprocess.run(["bash", "-n", "-c", step["run"]], check=True)


def test_a_gate_that_could_not_run_fails_the_job_and_says_so(tmp_path):
    """Without a result the comment step does nothing, the summary says so, and the verdict is not 0."""
    job, steps = scripts(WORKFLOW)
    checkout = tmp_path / "empty"
    checkout.mkdir()
    runner = runner_for(tmp_path, checkout, "no-such-commit")
    (runner.bin / "harness").write_text("#!/bin/sh\nexit 2\n")
    done = {name: runner.run(job, step) for name, step in steps.items()}
    assert done["gate"].returncode == 0 and done["verdict"].returncode == 2
    assert "ended without a result" in runner.read("github_step_summary")
    assert done["comment"].returncode == 0 and "api" not in runner.read("gh.log")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_planted_slow_kernel_choice_is_caught_end_to_end(tmp_path):
    checkout = copy_checkout(tmp_path / "checkout")
    plant_slow_kernel(checkout)
    job, steps = scripts(WORKFLOW)
    runner = runner_for(tmp_path, checkout, git(checkout, "rev-parse", "HEAD~1").strip())
    done = {name: runner.run(job, step) for name, step in steps.items()}
    assert done["gate"].returncode == 0, done["gate"].stderr
    assert done["verdict"].returncode == 1, done["gate"].stderr[-3000:]
    assert "make setup" in runner.read("gh.log")

    result = json.loads((checkout / "gate-result" / "gate.json").read_text())
    found = {outcome["metric"]: outcome for outcome in result["outcomes"] if "single" in outcome["cell_id"]}
    assert found["kernel_selection"]["state"] == "regression"
    assert "experts: reference before, every-expert now" in found["kernel_selection"]["detail"]
    assert found["median_step_cpu_ms"]["state"] == "regression"
    assert found["weight_bytes"]["state"] == "passed" and result["exit_code"] == 1

    assert "::error title=" in done["gate"].stderr and "every-expert" in done["gate"].stderr
    assert "Regression in" in runner.read("github_step_summary")
    assert "--method POST repos/owner/name/issues/17/comments -F body=@gate-result/gate.md" in runner.read("gh.log")
    assert ElementTree.parse(checkout / "gate-result" / "gate.junit.xml").getroot().get("failures") != "0"
    assert git(checkout, "worktree", "list").count("\n") == 1  # the temporary checkout of the base is gone

    (runner.work / "existing").write_text("4711\n")
    runner.run(job, steps["comment"])
    assert "--method PATCH repos/owner/name/issues/comments/4711" in runner.read("gh.log")
