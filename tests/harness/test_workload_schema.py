"""Mistakes in a workload are named at the line of the file, with the rule."""

from pathlib import Path

import pytest
import yaml

from harness.errors import ScenarioError
from harness.scenario import load_scenario
from scenario_files import scenario_data, write_scenario


def problem(tmp_path, **changes) -> str:
    data = scenario_data()
    workload = data["workloads"][0] | changes
    data["workloads"][0] = {key: value for key, value in workload.items() if value is not None}
    with pytest.raises(ScenarioError) as caught:
        load_scenario(write_scenario(tmp_path, data))
    return str(caught.value)


SWEEP = {"kind": "sweep", "from_rate_per_s": 1.0, "to_rate_per_s": 8.0}
MISTAKES = [
    pytest.param({"prompt_tokens": None}, "prompt_tokens is required, and missing", id="no-length"),
    pytest.param({"prompt_tokens": {"kind": "normal"}}, "prompt_tokens: must be a number of tokens, or have `kind`", id="kind"),
    pytest.param({"output_tokens": {"kind": "uniform", "low": 1, "high": 3}}, "at least 2 in every draw", id="single-token"),
    pytest.param({"arrival": {"kind": "trace"}}, "needs a `source` with times", id="trace-times-without-a-trace"),
    pytest.param({"arrival": SWEEP}, "needs `slo`", id="sweep-without-slo"),
    pytest.param(
        {"arrival": SWEEP | {"to_rate_per_s": 0.5}, "slo": {"ttft_ms": 9.0}}, "to_rate_per_s must be more", id="falling-sweep"
    ),
    pytest.param({"slo": {}}, "at least one of ttft_ms", id="slo-without-limits"),
    pytest.param({"arrival": {"kind": "gamma", "rate_per_s": 1.0}}, "burstiness: required, and missing", id="no-burstiness"),
    pytest.param(
        {"source": {"kind": "azure", "path": "nowhere.csv"}}, "source.path: no file at 'nowhere.csv'", id="no-such-trace"
    ),
    pytest.param({"source": {"kind": "csv", "path": "x"}}, "`kind` must be one of", id="unknown-format"),
    pytest.param({"shared_prefix": {"tokens": 4, "prefixes": 2}}, "did you mean 'num_prefixes'", id="unknown-key"),
    pytest.param({"max_failed_pct": 101.0}, "less than or equal to 100", id="share-above-all"),
]


@pytest.mark.parametrize(("changes", "rule"), MISTAKES)
def test_mistake_is_named(tmp_path, changes, rule):
    message = problem(tmp_path, **changes)
    assert rule in message and "scenario.yaml:" in message and "workloads[0]" in message


def test_paths_of_traces_are_relative_to_the_scenario(tmp_path):
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    data = scenario_data()
    workload = data["workloads"][0] | {"source": {"kind": "azure", "path": "t.csv"}, "arrival": {"kind": "trace"}}
    del workload["prompt_tokens"], workload["output_tokens"]
    data["workloads"][0] = workload
    scenario = load_scenario(write_scenario(tmp_path, data))
    assert scenario.workloads[0].source.path == str(tmp_path / "t.csv")


def test_examples_of_the_documentation_load(tmp_path):
    text = Path("docs/serving_client.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```yaml\n")[1:]]
    data = scenario_data() | {"workloads": yaml.safe_load(blocks[0])}
    assert len(blocks) == 1
    (tmp_path / "traces").symlink_to(Path("scenarios/traces").resolve())
    assert [w.name for w in load_scenario(write_scenario(tmp_path, data)).workloads] == ["replay", "limit"]
