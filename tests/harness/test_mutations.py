"""200 seeded mutations of scenarios and checkpoints: each is planned or refused with its place, and nothing is written.

Never another exception, never a hang. Plans are made in this process; every twentieth mutation goes through the command.
"""

import random
import re
import shutil
import signal
from pathlib import Path

import pytest

from commands import assert_refused, run_harness
from harness import device
from harness.errors import ScenarioError
from harness.run import Prepared, prepare
from harness.scenario import load_scenario
from in_process_worker import InProcessWorker, use_in_process_worker
from mutations import CHECKPOINT_MUTATIONS, SCENARIO_MUTATIONS
from scenario_files import scenario_data, write_scenario
from tiny_checkpoint import write_tiny

pytestmark = pytest.mark.slow
NUM_SCENARIOS, NUM_CHECKPOINTS = 128, 72
LIMIT_S = 20
MAX_MESSAGE = 20_000


def full_data() -> dict:
    """A scenario that uses every part of the schema, with the tiny checkpoint in the folder `mine`."""
    data = scenario_data()
    data |= {
        "description": "every part",
        "models": ["pocket-mixtral", {"name": "mine", "path": "mine", "weights": "auto", "targets": ["any"]}],
        "targets": ["any", "cpu"],
        "backends": ["native"],
        "precisions": ["bf16", {"weights": "nvfp4", "method": "four_six", "activations": "fp8"}, "mxfp4"],
        "kernels": {"allow_reference": True},
        "limits": {"load_timeout_s": 900.0, "cell_timeout_s": 900.0},
        "seed": 1,
    }
    poisson = {"kind": "poisson", "rate_per_s": 4.0, "max_slots": 4}
    sampling = {"temperature": 0.5, "top_p": 0.9}
    open_loop = data["workloads"][0] | {"name": "open", "arrival": poisson, "sampling": sampling, "warmup_requests": 1}
    data["workloads"].append(open_loop)
    return data


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("good") / "mine")


@pytest.fixture
def folder(good, tmp_path, monkeypatch) -> Path:
    """The current folder: a copy of the checkpoint in it, and a limit on the time of what comes."""
    shutil.copytree(good, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    use_in_process_worker(monkeypatch)

    def give_up(*_):
        raise TimeoutError(f"took longer than {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def state_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def judge(scenario_file: Path) -> Prepared | ScenarioError:
    """What comes of the scenario; another exception than ScenarioError ends the test."""
    signal.alarm(LIMIT_S)
    try:
        return prepare(load_scenario(scenario_file), device.cpu())
    except ScenarioError as error:
        return error
    finally:
        signal.alarm(0)


def assert_places(error: ScenarioError, scenario_file: Path) -> None:
    """Each problem begins with the file and a line that the file has."""
    num_lines = scenario_file.read_bytes().count(b"\n") + 1
    text = str(error)
    assert len(text) < MAX_MESSAGE
    assert error.problems
    for problem in error.problems:
        if problem.startswith("... and "):
            continue
        place = re.match(rf"{re.escape(str(scenario_file))}:(\d+): \S", problem)
        assert place, problem
        assert 1 <= int(place[1]) <= num_lines + 1, problem


def assert_command_agrees(outcome: Prepared | ScenarioError, scenario_file: Path) -> None:
    """Refused: `harness run` ends with 2. Planned: `harness plan` ends with 0 (running it could take hours)."""
    if isinstance(outcome, ScenarioError):
        assert_refused(run_harness("run", scenario_file, cwd=scenario_file.parent), f"{scenario_file}:")
    else:
        done = run_harness("plan", scenario_file, cwd=scenario_file.parent)
        assert done.returncode == 0, done.stderr


def test_unchanged_scenario_is_planned(folder):
    assert isinstance(judge(write_scenario(folder, full_data())), Prepared)


@pytest.mark.parametrize("seed", range(NUM_SCENARIOS))
def test_mutated_scenario(folder, seed):
    mutate = SCENARIO_MUTATIONS[seed % len(SCENARIO_MUTATIONS)]
    changed = mutate(full_data(), random.Random(seed))
    scenario_file = folder / "scenario.yaml"
    scenario_file.write_bytes(changed if isinstance(changed, bytes) else changed.encode("utf-8", "surrogatepass"))
    before = state_of(folder)
    outcome = judge(scenario_file)
    if isinstance(outcome, ScenarioError):
        assert_places(outcome, scenario_file)
    if seed % 20 == 0:
        assert_command_agrees(outcome, scenario_file)
    assert state_of(folder) == before


@pytest.mark.parametrize("seed", range(NUM_CHECKPOINTS))
def test_mutated_checkpoint(folder, seed):
    mutate = CHECKPOINT_MUTATIONS[seed % len(CHECKPOINT_MUTATIONS)]
    mutate(folder / "mine", random.Random(seed))
    data = scenario_data() | {"models": [{"name": "mine", "path": "mine"}]}
    scenario_file = write_scenario(folder, data)
    before = state_of(folder)
    outcome = judge(scenario_file)
    if isinstance(outcome, ScenarioError):
        assert_places(outcome, scenario_file)
        assert "models[0]" in str(outcome) or "mine's context" in str(outcome)
    elif outcome.plan.cells:
        load(outcome)
    if seed % 20 == 0:
        assert_command_agrees(outcome, scenario_file)
    assert state_of(folder) == before


def load(prepared: Prepared) -> None:
    """What was planned can be loaded; only weights too large for the arithmetic show no earlier than here, and are named."""
    import dataclasses

    try:
        loaded = InProcessWorker("native").ask(
            "load",
            timeout_s=LIMIT_S,
            source=dataclasses.asdict(prepared.sources["mine"]),
            precision=dataclasses.asdict(prepared.plan.cells[-1].precision),
            torch_device="cpu",
            seed=0,
            cpu_threads=1,
            allow_reference=True,
        )
    except ScenarioError as error:
        assert "must give finite logits" in str(error)
    else:
        assert loaded["check"]["passed"]
