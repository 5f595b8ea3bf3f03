"""`harness kernels list` and `explain`: tables and JSON say the same, for this machine and for one that is not here."""

import json

import pytest

from commands import assert_refused, run_harness
from harness.cli.kernels import COMMANDS
from harness.implementations import NAMES


def answer(*arguments: str) -> dict:
    done = run_harness("kernels", *arguments, "--json")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return json.loads(done.stdout)


def chosen(found: dict) -> list[tuple]:
    return [(c["max_tokens"], c["name"]) for row in found["choices"] if row["op"] == "experts" for c in row["crossovers"]]


def test_help_lists_the_commands():
    done = run_harness("kernels", "--help")
    assert done.returncode == 0 and all(name in done.stdout for name in COMMANDS)


def test_list_has_every_implementation_and_says_which_run_on_a_cpu():
    found = answer("list", "--gpu", "cpu")
    assert {row["name"] for row in found["rows"]} == set(NAMES)
    runs = {row["name"]: row["refused_here"] is None for row in found["rows"]}
    assert [name for name, here in runs.items() if here] == ["reference"]
    assert all(row["formats"] and row["device"] and row["note"] for row in found["rows"])


def test_list_is_for_the_gpu_that_is_named():
    rows = {row["name"]: row for row in answer("list", "--gpu", "RTX 5090")["rows"]}
    assert rows["triton-w4a4"]["refused_here"] is None and rows["triton-grouped"]["refused_here"] is None
    assert rows["cuda-fragments-decode"]["refused_here"] == "needs sm_90 or newer family 9x, this device is sm_120"


def test_list_for_people_names_formats_needs_and_limits():
    done = run_harness("kernels", "list")
    assert done.returncode == 0
    for words in ("cuda-fragments-decode", "nvfp4, mxfp4 x bf16", "any x any", "up to 256 tokens x", "fragments", "nvcc"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected", "peer"),
    [
        pytest.param(
            ["--gpu", "RTX 5090", "--activations", "nvfp4"], [(None, "triton-w4a4")], "flashinfer-cutlass", id="rtx-5090-w4a4"
        ),
        pytest.param(["--gpu", "A100"], [(None, "triton-grouped")], "marlin", id="a100"),
        pytest.param(["--gpu", "cpu"], [(None, "reference")], None, id="cpu"),
    ],
)
def test_explain_says_what_is_taken_and_what_vllm_would(arguments, expected, peer):
    found = answer("explain", *arguments)
    assert chosen(found) == expected and found["peer"]["chosen"] == peer
    names = {name for _, name in expected} | {item["name"] for item in found["choices"][1]["refused"]}
    assert names == set(NAMES) - {"triton-route"}
    assert all(item["reason"] for row in found["choices"] for item in row["refused"])
    assert found["shape"] == {"hidden": 4096, "intermediate": 14336, "num_experts": 8, "top_k": 2}


def test_explain_has_the_crossovers_in_tokens_and_where_they_come_from():
    found = answer("explain", "--gpu", "H100", "--tokens", "16", "--model", "pocket-mixtral")
    experts = found["choices"][1]
    names = [crossover["name"] for crossover in experts["crossovers"]]
    assert experts["layout"] == "fragments" and set(names) <= {"cuda-fragments-decode", "cuda-fragments-grouped"}
    assert experts["crossovers"][-1]["max_tokens"] is None and found["at_tokens"]["experts"] in names
    assert experts["source"].startswith("measured on" if found["tuned"] else "the table's order; not measured")


def test_explain_for_people_has_the_same_words():
    done = run_harness("kernels", "explain", "--gpu", "RTX 5090", "--format", "mxfp4", "--tokens", "16")
    assert done.returncode == 0
    for words in ("MXFP4 x BF16, mixtral-8x7b on RTX 5090", "triton-grouped", "16 tokens take", "marlin", "sm_120"):
        assert words in done.stdout
    assert "needs sm_90 or newer family 9x, this device is sm_120" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["list", "--gpu", "RTX 6090"], ["--gpu 'RTX 6090'", "RTX 5090", "H200"], id="unknown-gpu-in-list"),
        pytest.param(["explain", "--gpu", "RTX 6090"], ["--gpu 'RTX 6090'", "RTX 5090"], id="unknown-gpu"),
        pytest.param(["explain", "--format", "nvpf4"], ["--format 'nvpf4'", "mxfp4", "did you mean 'nvfp4'?"], id="format"),
        pytest.param(["explain", "--activations", "int4"], ["--activations 'int4'", "fp8"], id="unknown-activations"),
        pytest.param(["explain", "--model", "mixtral"], ["--model 'mixtral'", "pocket-mixtral"], id="unknown-model"),
        pytest.param(["explain", "--tokens", "0"], ["--tokens", "0"], id="no-token"),
        pytest.param(["exlpain"], ["No such command 'exlpain'"], id="unknown-command"),
    ],
)
def test_mistakes_end_with_2_and_list_what_is_known(arguments, words):
    assert_refused(run_harness("kernels", *arguments), *words)


def test_a_wrong_kernel_is_named_before_the_size_of_the_model():
    assert_refused(run_harness("kernels", "bench", "--kernel", "nosuch"), "--kernel: must be one of", "got 'nosuch'")


def test_a_filter_over_a_plan_without_cells_says_why_there_are_none(tmp_path):
    forced = ("--set", "kernels.implementation=triton-grouped", "--out", tmp_path / "run")
    done = run_harness("run", "scenarios/smoke.yaml", "--only", "precision=nvfp4*", *forced)
    assert_refused(done, "no cell can run here", "triton-grouped", "needs sm_80 or newer", code=3)
    assert not (tmp_path / "run").exists()
