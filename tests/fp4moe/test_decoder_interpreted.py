"""The decoder's kernels against plain torch, in Triton's interpreter, which must be chosen before Triton is imported.

One child process computes every case (decoder_interpreted.py); the tests read what it said.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.timeout(900)  # the child needs half a minute of a processor; a busy machine takes longer
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def said() -> dict[str, dict]:
    """id -> what the child process computed."""
    paths = (ROOT / "kernels", ROOT / "tests" / "fp4moe")
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    child = Path(__file__).with_name("decoder_interpreted.py")
    done = subprocess.run([sys.executable, str(child)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["id"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("192-8-2", id="hidden-no-power-of-two"),
        pytest.param("64-5-1", id="top-1-of-five"),
        pytest.param("96-3-3", id="every-expert-taken"),
    ],
)
def test_norm_and_route_are_the_reference(said, name):
    found = said[f"route-{name}"]
    assert found["same_sum"] and found["same_ids"] and found["recorded"] and found["beyond"]
    # normed is float32 to a few 2^-24 and then rounded to BF16: half a step, 2^-8 of the value, and a tie in a thousand.
    assert found["out"] <= 2.0**-8 * (1 + 2.0**-10)
    # Logits sum 192 products of about 1: sqrt(192) 2^-24 of each, 14; weights move by at most a quarter of that.
    assert found["weights"] <= 2.0**-18


def test_equal_experts_go_by_number_and_nan_stays_in_its_token(said):
    found = said["route-ties-and-nan"]
    assert found["ids"] == [[0, 1]] * 3 and found["others"]
    assert found["is_nan"] == [[False, False], [True, True], [False, False]]


def test_imposed_experts_are_the_tables_rows_in_turn_and_weights_the_softmax_over_them(said):
    found = said["route-imposed"]
    assert found["same_ids"] and found["recorded"] and found["weights"] <= 2.0**-18


def test_an_imposed_table_is_never_left_however_long_the_counter_runs(said):
    assert said["route-imposed-after-2-to-the-31"]["same_ids"]


@pytest.mark.parametrize("how", ["slot", "token"])
def test_the_first_residual_is_the_embedding(said, how):
    assert said[f"first-by-{how}"]["same"]


@pytest.mark.parametrize("tokens", [1, 3, 32])
def test_thin_linear_is_the_product(said, tokens):
    # Rows of W longer and shorter than what is loaded ahead (one tile of 2048, three of 128), with a part of a tile at the end.
    # Exact products, at most 2100 summed in another order: sqrt(2100) 2^-24 of the norm.
    found = said[f"linear-{tokens}"]
    assert found["error"] <= 2.0**-18 and found["rounded"]


def test_rotation_and_store(said):
    # Two products and a sum in float32 may round the other way than torch's before BF16: one in 2^14 by 2^-8.
    found = said["rotary"]
    assert found["queries"] <= 2.0**-13 and found["keys"] <= 2.0**-13
    assert found["stored"] and found["values"] and found["untouched"]


@pytest.mark.parametrize("programs", ["one-program", "many-programs"])
@pytest.mark.parametrize(
    "held",
    [
        pytest.param(0, id="nothing-held"),
        pytest.param(37, id="part-of-a-block"),
        pytest.param(64, id="one-block-to-its-end"),
        pytest.param(150, id="several-blocks"),
    ],
)
def test_attention_over_a_slot(said, programs, held):
    """NaN lies behind what a slot holds; H / G is 3."""
    found = said[f"attention-{programs}-{held}"]
    # Shares and the result are rounded to BF16: 2^-9.3 root mean square each, independent, 2^-8.8 of the norm. One position
    # of 150 left out would be sqrt(1 / 150) = 2^-3.6.
    assert found["error"] <= 2.0**-8 and found["appended"] and found["arrived"] == 0
    assert found["splits"] == {"one-program": 1, "many-programs": 16}[programs]


def test_greedy_takes_the_lower_of_equal_logits_and_says_nan(said):
    found = said["greedy"]
    assert found["out"] == found["right"] and found["last"] == found["out"][:2]
    # Slots 3, 1 and 0 moved on; slot 4 is nobody's and stays.
    assert found["position"] == [11, 21, 30, 41, 0]


def test_after_a_prompt_the_position_is_its_length(said):
    assert said["after-a-prompt"]["position"] == [11, 6, 30, 5, 0]


def chi_square(counts: list[int], shares: list[float]) -> float:
    total = sum(counts)
    return sum((count - total * share) ** 2 / (total * share) for count, share in zip(counts, shares, strict=True) if share)


def test_sampled_tokens_have_the_softmaxs_distribution(said):
    found = said["temperature"]
    assert chi_square(found["counts"], found["right"]) <= 18.47  # 4 degrees of freedom, level .001; the seed is fixed
    assert chi_square(found["counts"], [0.64, 0.23, 0.09, 0.03, 0.01]) > 18.47  # temperature 1 would be noticed


def test_top_p_keeps_the_nucleus_and_its_shares(said):
    found = said["top-p"]
    assert found["counts"][2:] == [0, 0, 0]
    assert chi_square(found["counts"], found["right"]) <= 10.83  # 1 degree of freedom, level .001


def test_the_smallest_nucleus_is_the_best_token(said):
    assert said["top-p-tiny"]["counts"] == [6, 0, 0, 0, 0]


def test_equal_logits_at_the_edge_of_the_nucleus_all_stay(said):
    a, b, c, d = said["top-p-ties"]["counts"]
    assert a and b and c and not d


def test_draws_depend_on_neither_slot_nor_neighbours(said):
    assert said["neighbours"]["passed"]


def test_greedy_beside_sampled_stays_greedy(said):
    found = said["greedy-beside-sampled"]
    assert found["out"] == [found["right"]] * 4
