"""`harness gate` as a command: exit codes of the contract, files, what is refused. Nothing is measured here."""

import json

import pytest
from click.testing import CliRunner

from gate_runs import HOST, record, records, timed, write_run
from harness.cli.gate import gate
from harness.errors import HarnessError
from harness.gate.sides import SideError, Tree
from harness.gate.worktree import checkout, own_tree

OTHER = HOST | {"host": "elsewhere"}
NOISY = (1.0, 1.3, 0.8, 1.2, 0.85, 1.15, 0.75, 1.1, 0.9, 1.25)


def invoke(*arguments, code: int) -> str:
    """Run the command; a HarnessError gives its exit code and message, as harness.cli.main does."""
    done = CliRunner().invoke(gate, [str(a) for a in arguments])
    found, text = done.exit_code, done.output
    if isinstance(done.exception, HarnessError):
        found, text = done.exception.exit_code, str(done.exception)
    assert found == code, (found, text, done.exception)
    return text


@pytest.fixture
def runs(tmp_path):
    """Folders by what they are beside `base`."""
    return {
        "base": write_run(tmp_path / "base", records(timed())),
        "equal": write_run(tmp_path / "equal", records(timed(1.001))),
        "slow": write_run(tmp_path / "slow", records(timed(1.1))),
        "noisy": write_run(tmp_path / "noisy", records(timed(shape=NOISY))),
        "far": write_run(tmp_path / "far", records(timed()), host=OTHER),
        "failed": write_run(tmp_path / "failed", [record({}, repeat=i, status="failed") for i in range(5)]),
    }


@pytest.mark.parametrize(
    ("run", "code", "words"),
    [
        pytest.param("equal", 0, "No regression", id="ok"),
        pytest.param("slow", 1, "Regression in", id="regression"),
        pytest.param("noisy", 3, "Inconclusive", id="inconclusive"),
        pytest.param("failed", 3, "Nothing measured", id="nothing-measured"),
        pytest.param("far", 4, "another machine", id="other-machine"),
    ],
)
def test_exit_codes(runs, run, code, words):
    assert words in invoke(runs[run], "--baseline", runs["base"], "--no-annotations", code=code)


def test_inconclusive_may_warn_and_still_does_not_say_no_regression(runs):
    text = invoke(runs["noisy"], "--baseline", runs["base"], "--on-inconclusive", "warn", "--annotations", code=0)
    assert "::warning" in text and "No regression in" not in text


def test_a_baseline_is_kept_and_used(runs, tmp_path):
    store = tmp_path / "store"
    invoke(runs["base"], "--update", "--reason", "first", "--baseline", store, code=0)
    invoke(runs["equal"], "--baseline", store, code=0)
    assert "no baseline of 'gate' for this machine" in invoke(runs["far"], "--baseline", store, code=4)
    invoke(runs["slow"], "--baseline", store, code=1)
    invoke(runs["slow"], "--update", "--reason", "it is what it is", "--baseline", store, code=0)
    invoke(runs["slow"], "--baseline", store, code=0)


def test_json_alone_on_standard_output_and_files_beside(runs, tmp_path):
    text = invoke(runs["slow"], "--baseline", runs["base"], "--json", "--out", tmp_path / "out", code=1)
    found = json.loads(text)
    assert found["exit_code"] == 1 and found["files"]["junit"].endswith("gate.junit.xml")
    assert (tmp_path / "out" / "gate.md").read_text().startswith("<!-- harness gate: gate -->")


def test_gates_of_the_scenario_hold(runs, tmp_path):
    lenient = {"primary": [{"metric": "median_itl_ms", "min_effect_pct": 20.0}], "exact": []}
    run = write_run(tmp_path / "lenient", records(timed(1.1)), gates=lenient)
    invoke(run, "--baseline", runs["base"], code=0)


def test_unknown_gates_in_a_record_are_named(runs, tmp_path):
    run = write_run(tmp_path / "odd", records(timed()), gates={"primary": [{"metric": "x", "min_effect_pct": 1.0}]})
    assert "run.json: scenario.gates.primary.0" in invoke(run, "--baseline", runs["base"], code=4)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        pytest.param(["base", "--ab", "HEAD"], 2, "takes a scenario file", id="ab-of-a-run"),
        pytest.param(["base", "--reason", "x"], 2, "goes with --update", id="reason-alone"),
        pytest.param(["base", "--update"], 2, "--reason", id="update-without-reason"),
        pytest.param(["base", "--set", "a=1", "--baseline", "base"], 2, "go with --ab", id="set-without-ab"),
        pytest.param(["base", "--ab", "HEAD", "--baseline", "base"], 2, "give one of them", id="both"),
        pytest.param(["nowhere", "--baseline", "base"], 4, "not a run's folder", id="no-run"),
    ],
)
def test_refused(runs, arguments, code, word):
    filled = [str(runs.get(argument, argument)) for argument in arguments]
    assert word in invoke(*filled, code=code)


def test_a_commit_that_is_not_there_is_named():
    for name in ("no-such-commit", "--upload-pack=x"):
        with pytest.raises(HarnessError, match="--ab") as refused, checkout(name):
            pass
        assert refused.value.exit_code == 2


def test_a_checkout_is_of_the_commit_and_goes_away():
    with checkout("HEAD") as tree:
        assert (tree.root / "harness" / "__init__.py").is_file() and tree.root != own_tree().root
    assert not tree.root.exists()


def test_a_tree_without_a_harness_is_not_comparable(tmp_path):
    from harness.gate.sides import Side

    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("")
    with (
        Side(Tree(tmp_path, "old commit"), tmp_path / "run") as side,
        pytest.raises(SideError, match="old commit: cannot") as bad,
    ):
        side.prepare({"name": "x"}, only=None, run_id="a", partner="b")
    assert bad.value.exit_code == 4
