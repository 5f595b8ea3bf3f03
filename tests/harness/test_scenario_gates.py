"""`gates:` of a scenario: what is refused, where, and what the defaults are."""

import pytest

from harness.errors import ScenarioError
from harness.scenario import load_scenario
from harness.scenario.gates import GateSpec
from scenario_files import scenario_data, write_scenario


def problem(tmp_path, gates) -> str:
    with pytest.raises(ScenarioError) as refused:
        load_scenario(write_scenario(tmp_path, scenario_data() | {"gates": gates}))
    return str(refused.value)


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        pytest.param(
            {"primary": [{"metric": "speed", "min_effect_pct": 3}]},
            ("gates.primary[0]", "no metric of that name"),
            id="unknown",
        ),
        pytest.param(
            {"primary": [{"metric": "perplexity", "min_effect_pct": 3}]}, ("gate it under `exact`",), id="exact-as-primary"
        ),
        pytest.param({"exact": [{"metric": "median_itl_ms"}]}, ("not one that repeats exactly",), id="timed-as-exact"),
        pytest.param(
            {"primary": [{"metric": "median_itl_ms", "min_effect_pct": 0}]},
            ("min_effect_pct", "greater than 0"),
            id="no-effect",
        ),
        pytest.param(
            {"primary": [{"metric": "median_itl_ms", "min_effect_pct": 3, "better": "higher"}]},
            ("better is lower",),
            id="direction",
        ),
        pytest.param(
            {"primary": [{"metric": f"{s}_itl_ms", "min_effect_pct": 3} for s in ("mean", "median", "p90", "p99")]},
            ("gates.primary", "at most 3"),
            id="too-many",
        ),
        pytest.param({"min_repeats": 20, "max_repeats": 10}, ("at most max_repeats",), id="repeats"),
        pytest.param({"max_repeats": 61}, ("gates.max_repeats", "60"), id="too-many-repeats"),
        pytest.param({"on_inconclusive": "pass"}, ("gates.on_inconclusive", "warn"), id="inconclusive-cannot-pass"),
        pytest.param({"primary": [], "exact": []}, ("nothing to hold a run against",), id="empty"),
        pytest.param({"primry": []}, ("did you mean 'primary'",), id="typing-error"),
        pytest.param({"exact": [{"metric": "weight_bytes"}, {"metric": "weight_bytes"}]}, ("stands twice",), id="twice"),
    ],
)
def test_refused(tmp_path, gates, words):
    text = problem(tmp_path, gates)
    for word in words:
        assert word in text
    assert "scenario.yaml:" in text or ".yaml:" in text


def test_defaults_judge_three_timed_metrics():
    spec = GateSpec()
    assert [item.metric for item in spec.primary] == ["output_throughput", "median_ttft_ms", "median_itl_ms"]
    assert GateSpec.model_validate(spec.model_dump()) == spec  # the defaults are themselves a valid `gates:`


def test_defaults_are_those_of_compare():
    from harness.compare.rules import DEFAULT_PRIMARY

    assert [(p.metric, p.min_effect_pct) for p in GateSpec().primary] == [(p.metric, p.min_effect_pct) for p in DEFAULT_PRIMARY]
