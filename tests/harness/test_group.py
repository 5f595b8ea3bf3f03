"""A group of cells: what each way of failing costs, and that a full disk and Ctrl-C end the run."""

import os
from dataclasses import dataclass, field

import pytest

import harness.run.group as group
from harness.device import cpu
from harness.errors import ScenarioError, StorageError, WorkerError
from harness.models import resolve
from harness.plan import Facts, all_precisions, make_plan
from harness.run.group import interleaved, measure_group
from harness.run.prepare import Prepared
from harness.scenario.schema import Scenario
from scenario_files import scenario_data

KILLED = WorkerError("killed", "worker ended by SIGKILL")


@dataclass
class Script:
    """What the workers answer, command by command over all of them; an exception is raised."""

    answers: list
    num_started: int = 0
    closed: list[float] = field(default_factory=list)


@pytest.fixture
def play(monkeypatch):
    def start(*answers) -> Script:
        script = Script(list(answers))

        class FakeWorker:
            pid = os.getpid()

            def __init__(self, backend):
                script.num_started += 1

            def ask(self, command, **arguments):
                answer = script.answers.pop(0)
                if isinstance(answer, BaseException):
                    raise answer
                return answer

            def close(self, grace_s=5.0):
                script.closed.append(grace_s)

        monkeypatch.setattr(group, "Worker", FakeWorker)
        return script

    return start


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    scenario = Scenario.model_validate(scenario_data() | {"precisions": ["bf16"], "repeats": 3, "quality": None})
    sources = {"pocket-mixtral": resolve(scenario.models[0])}
    facts = {("pocket-mixtral", p.id): Facts({"expert_codes": 1}, ()) for p in all_precisions(scenario)}
    device = cpu()
    return Prepared(scenario, device, sources, facts, make_plan(scenario, device, sources, facts))


def measure(prepared) -> list[str]:
    """`ok` or the kind of failure of each repeat."""
    work = interleaved(list(prepared.plan.cells), prepared)
    found = measure_group(work, prepared, "folder", lambda *told: None)
    return ["ok" if m.failure is None else m.failure.kind for m in found]


def test_one_worker_serves_all(prepared, play):
    script = play({}, {}, {}, {})
    assert measure(prepared) == ["ok", "ok", "ok"] and script.num_started == 1


def test_killed_worker_costs_one_repeat(prepared, play):
    script = play({}, {}, KILLED, {}, {})
    assert measure(prepared) == ["ok", "killed", "ok"] and script.num_started == 2


def test_killed_while_loading_costs_one_repeat(prepared, play):
    script = play(KILLED, {}, {}, {})
    assert measure(prepared) == ["killed", "ok", "ok"] and script.num_started == 2


def test_loading_is_not_tried_a_third_time(prepared, play):
    script = play(KILLED, KILLED)
    assert measure(prepared) == ["killed", "killed", "load_failed"] and script.num_started == 2


def test_checkpoint_that_went_bad_after_the_plan_fails_its_cells_and_not_the_run(prepared, play):
    play({}, ScenarioError(["model.safetensors: cut short"]), {}, {}, {})
    assert measure(prepared) == ["bad_input", "ok", "ok"]


@pytest.mark.parametrize("error", [StorageError("disk full"), KeyboardInterrupt()], ids=["disk-full", "ctrl-c"])
def test_what_ends_the_run_ends_the_worker_at_once(prepared, play, error):
    script = play({}, {}, error)
    with pytest.raises(type(error)):
        measure(prepared)
    assert script.closed == [0.0]
