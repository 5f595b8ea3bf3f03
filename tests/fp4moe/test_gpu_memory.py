"""What the GPU engine is predicted to hold of a device, by hand for Mixtral-8x7B; and the lanes of its graphs."""

from dataclasses import replace

import pytest
import torch

from fp4moe.precision import Precision
from fp4moe.runtime import MIXTRAL_8X7B, predict_memory_bytes
from fp4moe.runtime.gpu.cache import SlotCache, nbytes_of
from fp4moe.runtime.gpu.graphs import all_lanes, lanes_for
from fp4moe.runtime.gpu.memory import CUDA_BYTES, WORKSPACE_RESERVED, predict_gpu_bytes

TINY = replace(MIXTRAL_8X7B, num_layers=2, num_kv_heads=2, head_dim=32)


NVFP4 = Precision("nvfp4")


def predict(precision=NVFP4, layout="fragments", slots=32, context=512, step_tokens=4096):
    return predict_gpu_bytes(
        MIXTRAL_8X7B, precision, layout=layout, max_slots=slots, max_context=context, step_tokens=step_tokens
    )


def test_cache_of_32_slots_of_512_tokens():
    # 32 layers x keys and values x (32 x 512 + 1) tokens x 8 heads x 128 x 2 bytes.
    assert predict()["kv_cache"] == 32 * 2 * 16385 * 8 * 128 * 2 == 2_147_614_720


def test_cache_is_what_is_allocated():
    cache = SlotCache(TINY, max_slots=3, max_context=40, device=torch.device("cpu"))
    assert cache.nbytes == nbytes_of(TINY, 3, 40) == 2 * 2 * 121 * 2 * 32 * 2


def test_a_slots_tokens_lie_together_and_the_filler_has_one():
    cache = SlotCache(TINY, max_slots=3, max_context=40, device=torch.device("cpu"))
    keys, values = cache.sides(1)
    keys[40:47] = 1.0
    assert cache.prefix(1, 1, 7)[0].eq(1).all() and cache.prefix(1, 1, 7)[0].shape == (7, 2, 32)
    assert cache.slot_stride == 40 * 2 * 32 and cache.filler_slot * 40 == len(values) - 1


@pytest.mark.parametrize(
    ("precision", "layout", "bytes_a_slot"),
    [
        pytest.param(Precision("nvfp4"), "fragments", 2 * (4096 + 14336), id="fragments-x-and-h-in-bf16"),
        pytest.param(Precision("nvfp4"), "rows", 2 * 14336 + 4 * 4096, id="rows-h-in-bf16-and-a-float32-row-of-y"),
        pytest.param(Precision("fp8", activations="fp8"), "rows", 5 * 14336 + 4 * 4096, id="fp8-h-twice"),
    ],
)
def test_workspace_of_the_largest_prompt_step(precision, layout, bytes_a_slot):
    # A token's residual, normed, attention, and two outputs of experts: 4 + 2 + 2 + 4 + 4 bytes a hidden value.
    lives = 4096 * 4096 * 16 + 2 * 4096 * bytes_a_slot
    assert predict(precision, layout)["step_workspace"] == round(lives * WORKSPACE_RESERVED)


def test_a_step_has_no_more_tokens_than_all_slots_together():
    assert predict(slots=1, context=128) == predict(slots=1, context=128, step_tokens=128)


def test_where_prompts_are_short_and_many_their_logits_are_the_most():
    found = predict(slots=4096, context=2, step_tokens=4096)
    hidden = 4096 * 4096 * 16 + 2 * 4096 * 2 * (4096 + 14336)
    assert max(hidden, 4096 * 32000 * 4) == hidden and found["step_workspace"] == round(hidden * WORKSPACE_RESERVED)
    few = predict_gpu_bytes(
        replace(MIXTRAL_8X7B, hidden_size=64, intermediate_size=64), Precision("nvfp4"), layout="rows",
        max_slots=8, max_context=16, step_tokens=8,
    )  # fmt: skip
    assert few["step_workspace"] == round(8 * 32000 * 4 * WORKSPACE_RESERVED)


def test_other_causes_are_those_of_the_plain_engine():
    plain = predict_memory_bytes(MIXTRAL_8X7B, Precision("nvfp4"), max_slots=32, max_context=512)
    found = predict()
    assert {cause: found[cause] for cause in plain if cause != "kv_cache"} == {
        cause: size for cause, size in plain.items() if cause != "kv_cache"
    }
    assert set(found) - set(plain) == {"step_workspace", "allocator_slack", "cuda"} and found["cuda"] == CUDA_BYTES


@pytest.mark.parametrize(
    ("requests", "most", "lanes"),
    [
        pytest.param(1, 256, 1, id="one"),
        pytest.param(32, 256, 32, id="last-exact"),
        pytest.param(33, 256, 48, id="first-rounded-up"),
        pytest.param(48, 256, 48, id="a-whole-multiple"),
        pytest.param(250, 256, 256, id="up-to-the-slots"),
        pytest.param(35, 40, 40, id="never-more-than-the-slots"),
    ],
)
def test_lanes(requests, most, lanes):
    assert lanes_for(requests, most) == lanes and lanes in all_lanes(most)


@pytest.mark.parametrize("most", [1, 31, 32, 33, 40, 256])
def test_every_number_of_requests_has_lanes_enough_and_most_come_first(most):
    lanes = all_lanes(most)
    assert lanes == sorted(set(lanes), reverse=True) and lanes[0] == most
    assert all(requests <= lanes_for(requests, most) <= most for requests in range(1, most + 1))


def test_256_slots_take_46_graphs():
    assert len(all_lanes(256)) == 32 + (256 - 32) // 16
