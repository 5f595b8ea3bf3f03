"""The Triton kernels' numbers against the reference, in Triton's interpreter, which must be chosen before Triton is imported.

One child process computes every case (triton_interpreted.py); the tests read what it said.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from triton_cases import CASES

pytest.importorskip("triton")
ROOT = Path(__file__).parents[2]
ONE_TOKEN_OR_MORE = [case for case in CASES if case.nan_token is None]
WITH_NAN = [case for case in CASES if case.nan_token is not None]


@pytest.fixture(scope="module")
def said() -> dict[str, dict]:
    """id -> what the child process computed."""
    paths = (ROOT / "kernels", ROOT / "tests" / "fp4moe")
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    child = Path(__file__).with_name("triton_interpreted.py")
    done = subprocess.run([sys.executable, str(child)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["id"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in ONE_TOKEN_OR_MORE])
def test_layer_is_the_reference(said, case):
    found = said[case.id]
    assert found["error"] <= case.limit and found["same_type"]
    if case.activations == "fp8":  # the limit would notice a layer that leaves out the rounding
        assert found["error_without_fp8"] > case.limit


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in WITH_NAN])
def test_nan_stays_in_its_token(said, case):
    assert said[case.id] == {"id": case.id, "all_nan": True, "others_same": True}


def test_every_nvfp4_code_under_every_e4m3_scale_is_exact(said):
    # 0x7F and 0xFF are E4M3's NaN.
    assert said["expand-nvfp4"] == {"id": "expand-nvfp4", "num_wrong": 0, "num_nan": 2}


def test_every_mxfp4_code_is_exact_under_scales_from_2_to_the_minus_65_to_2_to_the_61(said):
    # Codes 62 to 189: the interpreter loses BF16's subnormals below 62; 189 is the first that is refused, as NaN.
    assert said["expand-mxfp4"]["num_wrong"] == 16 * 8


def test_bf16_rows_are_rounded_padded_and_permuted(said):
    assert said["rows-bf16"]["same"]


def test_fp8_rows_are_those_of_the_quantizer(said):
    found = said["rows-fp8"]
    assert (found["same_codes"], found["same_scales"], found["zero_padding"]) == (True, True, True)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("1-8-2", id="one-token"),
        pytest.param("19-8-2", id="second-program-is-partly-filled"),
        pytest.param("5-3-3", id="every-expert-taken"),
        pytest.param("4-20-1", id="top-1-of-a-number-that-is-no-power-of-two"),
    ],
)
def test_route_is_the_reference(said, name):
    found = said[f"route-{name}"]
    # Weights are at most 1; exp, two sums and two divisions round by a few 2^-24.
    assert found["same_ids"] and found["error"] <= 8 * 2.0**-24 and found["dtype"] == "torch.int32"


def test_route_takes_the_lower_expert_of_equal_ones(said):
    assert said["route-ties"]["ids"] == [[0, 1], [0, 1]]


def test_route_gives_valid_experts_for_nan_and_leaves_other_tokens_alone(said):
    assert said["route-nan"] == {"id": "route-nan", "ids": [[0, 1], [1, 2]], "is_nan": [[True, True], [False, False]]}


def test_route_of_no_tokens(said):
    assert said["route-no-tokens"]["shape"] == [0, 2]


@pytest.mark.parametrize("name", ["example", "one-slot", "one-expert-many-tiles", "many-experts"])
def test_sorted_slots_are_stable_padded_and_complete(said, name):
    found = said[f"sort-{name}"]
    tile, slots = found["tile"], [expert for token in found["ids"] for expert in token]
    right_slots, right_experts = [], []
    for expert in range(found["num_experts"]):
        mine = [slot for slot, other in enumerate(slots) if other == expert]
        num_tiles = -(-len(mine) // tile)
        right_slots += mine + [len(slots)] * (num_tiles * tile - len(mine))
        right_experts += [expert] * num_tiles
    assert found["slots"][: len(right_slots)] == right_slots
    assert found["experts"] == right_experts + [-1] * (len(found["experts"]) - len(right_experts))
