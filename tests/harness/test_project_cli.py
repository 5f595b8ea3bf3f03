"""`harness project`: figures marked, errors shown, bad input refused with its exit code."""

import json

import pytest
from click.testing import CliRunner

from commands import run_harness
from harness.cli.project import project
from harness.errors import HarnessError
from harness.models import MIXTRAL_8X7B

METRICS = {"output_throughput", "decode_throughput", "median_ttft_ms", "median_tpot_ms"}


def invoke(*arguments):
    return CliRunner().invoke(project, arguments)


def test_a_table_of_projections_is_marked():
    done = invoke("--gpu", "rtx-5090", "--gpu", "H200", "--precision", "nvfp4")
    assert done.exit_code == 0 and "PROJECTED" in done.output and "stand-in" in done.output
    assert "~" in done.output and " to " in done.output


def test_json_has_kind_basis_and_memory():
    data = json.loads(invoke("--gpu", "A100", "--json", "--batch", "4").output)["projections"]
    for row in data:
        assert row["kind"] == "projected, unvalidated" and row["memory"]["kind"] == "computed"
        assert row["reason"] or set(row["metrics"]) == METRICS


def test_published_figures_stand_beside_the_ranges_with_their_source():
    assert "https://www.baseten.co" in invoke("--gpu", "A100").output
    data = json.loads(invoke("--gpu", "RTX 5090", "--json").output)
    assert {point["kind"] for point in data["published"]} == {"published by others"} and len(data["published"]) == 2
    assert json.loads(invoke("--gpu", "H100", "--json").output)["published"] == []


def test_recorded_routing_reads_less_than_uniform():
    def tpot(routing):
        done = invoke("--gpu", "H200", "--batch", "4", "--json", "--precision", "bf16", "--routing", routing)
        return json.loads(done.output)["projections"][0]["metrics"]["median_tpot_ms"]["value"]

    assert tpot("pocket") < tpot("uniform")


def test_errors_are_shown_with_measured_beside_predicted():
    done = invoke("--errors", "--json")
    data = json.loads(done.output)
    assert len(data["layers"]) > 60
    assert all({"measured_us", "predicted_us", "error_pct"} <= row.keys() for row in data["layers"])
    assert "predicted from H100 alone" in invoke("--errors").output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param((), 2, ("--gpu: required, and missing",), id="no-gpu"),
        pytest.param(("--gpu", "H300"), 2, ("not a known GPU", "A100"), id="unknown-gpu"),
        pytest.param(("--gpu", "cpu"), 2, ("a CPU cannot be projected",), id="cpu"),
        pytest.param(("--gpu", "H100", "--precision", "fp3"), 2, ("not a weight format", "nvfp4"), id="unknown-format"),
        pytest.param(("--gpu", "H100", "--precision", "int4"), 3, ("no kernel with a measured curve",), id="no-kernel"),
        pytest.param(("--gpu", "H100", "--batch", "0"), 2, ("--batch: must be from 1",), id="batch"),
        pytest.param(("--gpu", "H100", "--model", "/nowhere"), 2, ("not a known model",), id="no-model"),
        pytest.param(("--gpu", "H100", "--routing", "recorded:/nowhere.json"), 2, ("routing",), id="no-histogram"),
    ],
)
def test_bad_input_is_refused(arguments, code, words):
    done = invoke(*arguments)
    assert isinstance(done.exception, HarnessError) and done.exception.exit_code == code
    for word in words:
        assert word in str(done.exception)


def test_does_not_fit_is_a_row_with_the_arithmetic():
    done = invoke("--gpu", "RTX 4090", "--json")
    assert done.exception.exit_code == 3 and "choose a larger GPU" in str(done.exception)
    for row in json.loads(done.stdout)["projections"]:
        assert row["metrics"] == {} and "does not fit: experts" in row["reason"] and row["memory"]["fits"] is False


def test_a_checkpoint_by_path_is_projected_with_its_own_sizes(tmp_path):
    """Mixtral-8x22B's sizes: experts 1.7 times as large, 56 layers."""
    folder = tmp_path / "big one"
    folder.mkdir()
    sizes = {"hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 56, "num_attention_heads": 48}
    (folder / "config.json").write_text(json.dumps(MIXTRAL_8X7B | sizes))
    done = invoke("--gpu", "B200", "--model", str(folder), "--precision", "nvfp4", "--json")
    row = json.loads(done.output)["projections"][0]
    # 56 x 8 x 3 x 6144 x 16384 weights at 4.5 bits are 76.10 GB; attention 9.87 and embeddings .79 stay BF16.
    assert row["model"] == "big one" and row["memory"]["weight_bytes"] / 1e9 == pytest.approx(86.76, abs=0.05)
    assert row["metrics"]["median_tpot_ms"]["low"] > 2


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    done = invoke("--gpu", "B200", "--model", str(tmp_path))
    assert "config.json: cannot be read as JSON" in str(done.exception) and done.exception.exit_code == 2


def test_the_command_as_a_user_runs_it():
    done = run_harness("project", "--gpu", "H100", "--precision", "nvfp4")
    assert done.returncode == 0 and "cuda-fragments" in done.stdout and done.stderr == ""
