"""Reading scenarios: what is accepted, and that each mistake is named with file, line, key path, value and rule."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from harness.errors import ScenarioError, UsageError
from harness.scenario import load_scenario
from harness.scenario.export import schema_text
from harness.scenario.schema import Scenario
from scenario_files import scenario_data, write_scenario

SCENARIOS = sorted(Path("scenarios").glob("*.yaml"))


def problem(tmp_path, data) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(write_scenario(tmp_path, data))
    return str(caught.value)


def test_defaults_are_filled_in(tmp_path):
    scenario = load_scenario(write_scenario(tmp_path, scenario_data()))
    assert scenario.precisions[1].weights == "nvfp4"
    assert scenario.models[0].weights == "auto"
    assert scenario.targets == ["any"]


def test_same_text_same_scenario(tmp_path):
    path = write_scenario(tmp_path, scenario_data())
    assert load_scenario(path) == load_scenario(path)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_shipped_scenarios_load_and_fit_the_published_schema(path):
    load_scenario(path)
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(Path("scenarios/schema.json").read_text()))


def test_published_schema_is_the_generated_one():
    assert Path("scenarios/schema.json").read_text() == schema_text(), "run `make schema`"


MISTAKES = [
    pytest.param(("reapeats",), 3, "unknown key", "did you mean 'repeats'?", id="unknown-key-at-the-top"),
    pytest.param(("workloads", 0, "promt_tokens"), 3, "unknown key", "did you mean 'prompt_tokens'?", id="unknown-key-inside"),
    pytest.param(("repeats",), "three", "must be a valid integer", "'three'", id="wrong-type"),
    pytest.param(("repeats",), "3", "must be a valid integer", "'3'", id="number-in-quotes"),
    pytest.param(("repeats",), 0, "greater than or equal to 1", "0", id="too-small"),
    pytest.param(("precisions", 1), "nvfp5", "'nvfp4'", "'nvfp5'", id="unknown-precision"),
    pytest.param(
        ("precisions", 1),
        {"weights": "mxfp4", "method": "four_six"},
        "allowed: search, absmax",
        "four_six",
        id="method-of-another-format",
    ),
    pytest.param(
        ("workloads", 0, "arrival"), {"kind": "poisson", "rate_per_s": -1.0}, "greater than 0", "-1.0", id="negative-rate"
    ),
    pytest.param(
        ("workloads", 0, "arrival"),
        {"kind": "poisson", "rate_per_s": float("nan")},
        "workloads[0].arrival.rate_per_s",
        "nan",
        id="rate-not-a-number",
    ),
    pytest.param(("workloads", 0, "arrival"), {"kind": "burst"}, "`kind` must be one of", "closed", id="unknown-arrival"),
    pytest.param(("workloads", 0, "output_tokens"), 1, "greater than 1", "1", id="no-time-per-token-with-one"),
    pytest.param(("models", 0), "mixtrall", "known name", "pocket-mixtral", id="unknown-model"),
    pytest.param(("models", 0), {"name": "mine", "path": "nowhere"}, "no checkpoint at", "'nowhere'", id="missing-checkpoint"),
    pytest.param(("name",), "../etc", "string should match pattern", "'../etc'", id="name-that-leaves-the-folder"),
    pytest.param(("targets",), ["H1000"], "'H100'", "'H1000'", id="unknown-gpu"),
]


@pytest.mark.parametrize(("path", "value", "rule", "shown"), MISTAKES)
def test_mistake_names_place_rule_and_value(tmp_path, path, value, rule, shown):
    data = scenario_data()
    node = data
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    message = problem(tmp_path, data)
    assert rule in message and shown in message
    file, line, _ = message.split(":", 2)
    assert file.endswith("scenario.yaml") and int(line) >= 1
    assert str(path[0]) in message.split(":", 2)[2]
    written = Path(file).read_text().splitlines()[int(line) - 1]
    wrong = str(value[0] if isinstance(value, list) else list(value.values())[-1] if isinstance(value, dict) else value)
    assert any(part in written for part in (wrong, str(path[-1]), "rate_per_s", "arrival", "weights"))


def test_every_mistake_is_listed_at_once(tmp_path):
    data = scenario_data() | {"repeats": -1, "seed": "x"}
    assert len(problem(tmp_path, data).splitlines()) == 2


def test_key_given_twice(tmp_path):
    path = tmp_path / "scenario.yaml"
    path.write_text("name: a\nrepeats: 1\nname: b\n")
    with pytest.raises(ScenarioError, match=r"scenario.yaml:3: name: key given twice"):
        load_scenario(path)


@pytest.mark.parametrize("text", ["", "- a\n", "42", "null"], ids=["empty", "list", "number", "null"])
def test_not_a_mapping(tmp_path, text):
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match="must be a mapping"):
        load_scenario(path)


def test_syntax_error_has_a_line(tmp_path):
    path = tmp_path / "scenario.yaml"
    path.write_text("name: a\nmodels: [\n")
    with pytest.raises(ScenarioError, match=r"scenario.yaml:3: not valid YAML"):
        load_scenario(path)


def test_missing_file_suggests_a_near_one():
    with pytest.raises(UsageError, match="did you mean scenarios/mixtral.yaml"):
        load_scenario(Path("scenarios/mixtrall.yaml"))


def test_repeated_names_are_refused(tmp_path):
    data = scenario_data()
    data["workloads"].append(data["workloads"][0])
    assert "name 'single' is used twice" in problem(tmp_path, data)


def test_nothing_to_measure(tmp_path):
    data = scenario_data()
    del data["workloads"], data["quality"]
    assert "nothing to measure" in problem(tmp_path, data)


def test_override_changes_one_value(tmp_path):
    path = write_scenario(tmp_path, scenario_data())
    scenario = load_scenario(path, ("workloads[0].num_requests=7", "repeats=2"))
    assert (scenario.workloads[0].num_requests, scenario.repeats) == (7, 2)


def test_override_with_a_bad_value_names_the_option(tmp_path):
    with pytest.raises(ScenarioError, match="--set: repeats: must be a valid integer"):
        load_scenario(write_scenario(tmp_path, scenario_data()), ("repeats=many",))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("repeats", "must look like key.path=value", id="no-equals-sign"),
        pytest.param("workloads[3].name=x", "is not there", id="index-out-of-range"),
        pytest.param("name.x=1", "is not there", id="inside-a-string"),
        pytest.param("repeats=[", "not valid YAML", id="value-not-yaml"),
    ],
)
def test_bad_override(tmp_path, text, rule):
    with pytest.raises(UsageError, match=rule):
        load_scenario(write_scenario(tmp_path, scenario_data()), (text,))


def test_scenario_is_frozen():
    scenario = Scenario.model_validate(scenario_data())
    with pytest.raises(ValueError, match="frozen"):
        scenario.repeats = 2
