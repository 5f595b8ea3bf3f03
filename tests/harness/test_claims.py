"""Checks are read, judged on evidence, and wrong ones are refused with place, rule, value and what is allowed."""

import json

import pytest
from click.testing import CliRunner

from commands import assert_refused, run_harness
from harness.claims import judge_scenario
from harness.claims.evidence import Evidence, gather
from harness.claims.grammar import parse_check
from harness.claims.judge import judge_check
from harness.claims.verdicts import VERDICTS, weightiest
from harness.cli.claims import claims
from harness.errors import ScenarioError
from harness.run.folder import scenario_sha256
from harness.scenario import load_scenario
from scenario_files import scenario_data, write_scenario


def judged(text: str, evidence: Evidence | None = None):
    return judge_check(parse_check(text), evidence or gather())


def test_a_check_is_read_with_units_and_qualifiers_in_any_order():
    check = parse_check("ttft <= 0.5 s batch 4 with NVFP4-search-a16 on rtx 5090")
    assert (check.left.quantity, check.relation, check.right.number, check.right.unit) == ("ttft", "<=", 500.0, "ms")
    assert check.left.qualifiers == {"batch": "4", "with": "nvfp4-search-a16", "on": "RTX 5090"}


@pytest.mark.parametrize("name", ["output_throughput", "median_ttft_ms", "perplexity_change_pct", "perplexity increase"])
def test_names_of_the_result_json_are_taken(name):
    assert parse_check(f"{name} >= 1").left.quantity in ("throughput", "ttft", "perplexity change")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("throughputs >= 3", ("unknown metric 'throughputs'", "did you mean 'throughput'?"), id="unknown-metric"),
        pytest.param("throughput >= 3 on RTX 9090", ("not a known GPU: 'RTX 9090'", "RTX 5090"), id="unknown-gpu"),
        pytest.param("throughput >= 3 with fp3", ("unknown precision 'fp3'", "nvfp4"), id="unknown-precision"),
        pytest.param("throughput >= 3 ms", ("throughput is in tokens/s (got ms)",), id="unit-of-another-metric"),
        pytest.param("throughput >= 3 parsecs", ("unknown unit 'parsecs'", "tokens/s"), id="unknown-unit"),
        pytest.param("throughput >= nan", ("unknown metric 'nan'",), id="nan"),
        pytest.param("throughput >= 1e999", ("must be a finite number",), id="overflow"),
        pytest.param("throughput is fine", ("needs one of >= <=",), id="no-relation"),
        pytest.param("throughput >= 3 batch many", ("batch must be a whole number above 0 (got 'many')",), id="batch"),
        pytest.param("throughput >= 3 batch 1 batch 2", ("'batch' must stand once",), id="twice"),
        pytest.param("hot share = 7 % experts a b", ("experts must be counts",), id="counts"),
        pytest.param("1 ms > 2 tokens/s", ("compares ms with tokens/s",), id="two-units"),
    ],
)
def test_a_wrong_check_says_what_is_wrong(text, words):
    with pytest.raises(ScenarioError) as raised:
        parse_check(text, "claims[0].checks[0]")
    message = str(raised.value)
    assert message.startswith("claims[0].checks[0]: ") and text in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "verdict", "basis"),
    [
        ("gpu.bandwidth = 1.8 TB/s on RTX 5090", "supported", "data sheet"),
        ("gpu.memory_kind = HBM3 on RTX 5090", "contradicted", "data sheet"),
        ("gpu.bandwidth = 1 TB/s", "underspecified", "none"),
        ("memory <= 18.5 GB with nvfp4 on RTX 5090", "impossible", "computed"),
        ("memory <= 24.3 GB with nvfp4", "impossible", "computed"),  # experts alone are 25.4
        ("memory <= 27 GB with nvfp4", "contradicted", "computed"),  # attention could be quantized too: another recipe
        ("memory <= 40 GB with nvfp4", "supported", "computed"),
        ("memory >= 40 GB with nvfp4", "contradicted", "computed"),
        ("expert compression >= 4 x with nvfp4", "impossible", "computed"),
        ("perplexity change < 1 % with nvfp4", "underspecified", "measured"),
        ("perplexity change < 1 % with nvfp4-search-a16", "supported", "measured"),
        ("perplexity change < 1 % with mxfp4-search-a4", "contradicted", "measured"),
        ("perplexity change < 1 % with nvfp4-magic-a16", "not testable here", "none"),
        ("perplexity change on H100 < perplexity change on A100", "contradicted", "measured"),
        ("perplexity change on H100 = perplexity change on A100", "supported", "measured"),
        ("perplexity change with nvfp4-search-a16 < perplexity change with nvfp4-search-a4", "supported", "measured"),
        ("hot share = 70 % experts 120 95 10 8 5 2 1 0", "contradicted", "computed"),
        ("hot share < 50 %", "supported", "measured"),
        ("models that fit >= 1 with bf16 on A100", "contradicted", "computed"),
        ("1000 tokens/s > 1200 tokens/s", "contradicted", "computed"),
        ("layer over limit <= 1.1 x with nvfp4-a4 on RTX 5090", "not testable here", "none"),
        ("speedup > 1 with nvfp4 batch 1 on H200", "supported", "projected"),
        ("speedup > 1 with nvfp4 on A100", "not testable here", "none"),  # BF16 does not fit there
        ("throughput >= 1850 tokens/s", "underspecified", "none"),
        ("throughput >= 1850 tokens/s on RTX 5090", "underspecified", "projected, unvalidated"),
        ("throughput >= 1850 tokens/s on RTX 5090 batch 1 prompt 128 output 128", "impossible", "computed"),
        ("throughput >= 180 tokens/s on H200 batch 1 prompt 128 output 128", "supported", "measured"),
        ("throughput >= 200 tokens/s on H200 batch 1 prompt 128 output 128", "underspecified", "measured"),  # ours, not vLLM
        ("throughput >= 200 tokens/s on H200 batch 3 prompt 128 output 128", "supported", "projected"),
        ("throughput >= 1e6 tokens/s on H200", "impossible", "computed"),
        ("ttft <= 1 ms on RTX 5090 prompt 4096", "impossible", "computed"),
        ("ttft <= 45 ms on RTX 5090", "underspecified", "projected, unvalidated"),
        ("tpot <= 20 ms on RTX 4090 batch 1 prompt 128", "not testable here", "none"),  # does not fit
    ],
)
def test_verdicts(text, verdict, basis):
    found = judged(text)
    assert (found.verdict, found.basis) == (verdict, basis), found.text
    assert found.text


def test_an_underspecified_speed_names_the_condition():
    text = judged("throughput >= 1850 tokens/s on RTX 5090").text
    assert "surely from batch" in text and "128 in, 128 out" in text and "1024 in" in text


def test_a_measured_workload_counts_before_a_projection():
    row = {"gpu": "H200", "weights": "nvfp4", "batch": 8, "prompt": 128, "output": 64, "source": "mine"}
    row |= {"output_throughput": 700.0}
    evidence = Evidence((), (row, row | {"output_throughput": 720.0}))
    ask = "on H200 with nvfp4 batch 8 prompt 128 output 64"
    found = judged(f"throughput >= 690 tokens/s {ask}", evidence)
    assert (found.verdict, found.basis, found.sources) == ("supported", "measured", ("mine",))
    assert judged(f"throughput >= 710 tokens/s {ask}", evidence).verdict == "underspecified"
    assert judged(f"throughput >= 800 tokens/s {ask}", evidence).verdict == "contradicted"


def test_the_weightiest_check_decides():
    assert weightiest(["supported", "underspecified", "impossible"]) == "impossible"
    assert weightiest(["supported", "not testable here"]) == "not testable here"
    assert weightiest([]) == "not testable here" and len(VERDICTS) == 5


def test_judge_scenario_takes_claims_as_records_hold_them():
    (claim,) = judge_scenario([{"name": "C", "checks": ["weights <= 30 GB with nvfp4", "weights <= 10 GB with nvfp4"]}])
    assert claim.verdict == "impossible" and [f.verdict for f in claim.findings] == ["supported", "impossible"]


def test_a_scenario_with_a_wrong_claim_is_refused_with_its_line(tmp_path):
    path = write_scenario(tmp_path, scenario_data() | {"claims": ["throughput >= 3 on RTX 5090", "thruput >= 3"]})
    line = path.read_text().splitlines().index("- thruput >= 3") + 1
    assert_refused(run_harness("claims", path), f"{path}:{line}", "unknown metric 'thruput'", "allowed: throughput")


def test_claims_do_not_change_the_scenarios_hash(tmp_path):
    plain = load_scenario(write_scenario(tmp_path, scenario_data()))
    claimed = load_scenario(write_scenario(tmp_path, scenario_data() | {"claims": ["memory < 3 GB"]}))
    assert claimed.claims[0].name == "claim-1"
    assert scenario_sha256(plain) == scenario_sha256(claimed)


def test_the_command_writes_marks_and_its_exit_code(tmp_path):
    path = write_scenario(tmp_path, scenario_data() | {"claims": ["throughput >= 200 tokens/s on H200 batch 1 prompt 128"]})
    done = CliRunner().invoke(claims, [str(path), "--json", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (claim,) = json.loads(done.output)["claims"]
    assert claim["checks"][0]["basis"] == "projected"
    page = (tmp_path / "out" / "claims.md").read_text()
    assert "*projected*" in page and "PROJECTED" in page
    wrong = write_scenario(tmp_path, scenario_data() | {"claims": ["memory < 3 GB"]})
    assert CliRunner().invoke(claims, [str(wrong)]).exit_code == 0
    assert CliRunner().invoke(claims, [str(wrong), "--strict"]).exit_code == 1


def test_a_scenario_without_claims_says_so(tmp_path):
    assert_refused(run_harness("claims", write_scenario(tmp_path, scenario_data())), "claims: required here, and missing")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    path = write_scenario(tmp_path, scenario_data() | {"claims": ["memory < 3 GB"]})
    assert_refused(run_harness("claims", path, tmp_path), "not a run's folder", code=4)
