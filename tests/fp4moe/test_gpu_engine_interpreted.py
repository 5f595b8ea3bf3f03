"""The GPU engine against the plain one, in Triton's interpreter, which must be chosen before Triton is imported.

A child process runs what is asked (gpu_engine_interpreted.py); the tests read what it said. By default both engines on three
requests; faults and the lines of the GPU's check under `-m slow`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fp4moe import ranges

pytest.importorskip("triton")
pytestmark = pytest.mark.timeout(900)  # the child needs half a minute of a processor; a busy machine takes longer
ROOT = Path(__file__).parents[2]
BETWEEN_LAUNCHES = ["wait for the device", "routing record", "emit", "schedule"]


def run_child(*wanted: str) -> dict[str, dict]:
    """id -> what the child process said."""
    paths = (ROOT / "kernels", ROOT / "tests" / "fp4moe")
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    child = Path(__file__).with_name("gpu_engine_interpreted.py")
    done = subprocess.run([sys.executable, str(child), *wanted], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["id"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def alike():
    return run_child("alike", "idle")


@pytest.fixture(scope="module")
def checked():
    return run_child("end-of-text", "checks")


@pytest.mark.parametrize("how", ["whole", "stretches"])
def test_greedy_tokens_and_recorded_experts_are_the_plain_engines(alike, how):
    """Three requests on two slots; no near-tie in these weights, so BF16 operands change no token."""
    found = alike[how]
    assert found["same_tokens"] and found["same_experts"] == [True] * 3
    assert found["finished"] == ["r0", "r1", "r2"] and not found["has_work"]


def test_each_decode_step_is_told_by_the_same_ranges(alike):
    """From one launch to the next: what it consists of, the step before read while it runs, and the next one planned."""
    told = alike["whole"]["ranges"]
    outermost = [name for name, depth in told if depth == 0]
    launches = [index for index, name in enumerate(outermost) if name == "decode step"]
    assert outermost[launches[0] : launches[1]] == ["decode step", *BETWEEN_LAUNCHES]
    inside = [name for name, depth in told if depth == 1]
    assert inside[-6:] == ["layer", "layer", "norm", "head", "sampling", "readback"]
    assert {name for name, _ in told} <= {*ranges.NAMES, "attention projections"}


def test_prompts_are_packed_before_decoding_and_the_third_request_waits_for_a_slot(alike):
    decode = [["decode", 2, 2]] * 2
    assert alike["whole"]["steps"] == [["prefill", 12, 2], *decode, ["prefill", 1, 1], *[["decode", 1, 1]] * 2]


def test_a_prompt_longer_than_a_step_goes_in_stretches(alike):
    steps = alike["stretches"]["steps"]
    assert [tokens for phase, tokens, _ in steps if phase == "prefill"] == [4, 4, 4, 1]


REFUSALS = ("record_into() needs an engine without requests", "impose_routing() needs an engine without requests",
            "'nobody': must be waiting or running to be cancelled", "needs a waiting or running request",
            "must be expert ids 0 to 3 of shape [rows, 2, 2] (got (3, 2, 3))",
            "must be expert ids 0 to 3 of shape [rows, 2, 2]", "max_slots >= 1", "2 <= max_context <= 64")  # fmt: skip


def test_what_cannot_be_is_refused_in_words(alike):
    said = alike["refusals"]["said"]
    assert len(said) == len(REFUSALS)
    assert all(wanted in found for wanted, found in zip(REFUSALS, said, strict=True)), said


def test_the_engine_says_what_it_is(alike):
    facts = alike["refusals"]["facts"]
    assert facts["engine"] == "gpu" and facts["num_graphs"] == 0 and "slot_attention" in facts["decode_attention"]
    # 2 layers x keys and values x (16 + 1) tokens x 1 head of 32 x 2 bytes.
    assert alike["refusals"]["kv"] == 2 * 2 * 17 * 32 * 2


@pytest.mark.slow
def test_end_of_text_ends_a_request_and_its_slot_goes_on(checked):
    found = checked["end-of-text"]
    alone, first = found["alone"], found["first"]
    assert found["tokens"] == {"a": alone[: first + 1], "b": alone} and first < 4


CHECKS = (
    "tokens", "tokens under their experts", "logits under the same experts", "experts", "more sequences than slots",
    "prompt longer than the context", "token beyond the vocabulary", "empty prompt", "request id twice", "cancel midway",
    "same tokens after all that", "NaN weights", "NaN in one request", "imposed experts", "own routing after imposed",
    "imposed weights",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_line_of_the_gpu_check_passes(checked, name):
    assert checked[f"check: {name}"]["passed"], checked[f"check: {name}"]
