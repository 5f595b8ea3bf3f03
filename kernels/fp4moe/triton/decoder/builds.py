"""The decoder's kernels as runtime/gpu/ launches them for Mixtral-8x7B, for aot.py to compile without a GPU.

Keys: "decoder/<kernel>", and where a kernel has several forms "decoder/<kernel>/<form>".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fp4moe.triton.build import Build
from fp4moe.triton.decoder.next_token import BLOCK_V, next_token_kernel
from fp4moe.triton.decoder.norm_route import norm_route_kernel, num_warps
from fp4moe.triton.decoder.rotary_store import rotary_store_kernel
from fp4moe.triton.decoder.slot_attention import BLOCK_C, ROWS, num_splits, slot_attention_kernel
from fp4moe.triton.decoder.thin_linear import MAX_TOKENS, thin_linear_kernel, tile

HIDDEN, HEADS, KV_HEADS, HALF, VOCABULARY, EXPERTS, TOP_K = 4096, 32, 8, 64, 32000, 8, 2
_INTS = ("token_ptr", "slot_ptr", "ids_ptr", "imposed_ptr", "counter_ptr", "position_ptr", "length_ptr", "seed_ptr",
         "drawn_ptr", "last_ptr", "arrived_ptr")  # fmt: skip
_FLOATS = ("residual_ptr", "weights_ptr", "cos_ptr", "sin_ptr", "parts_ptr", "stats_ptr", "logits_ptr", "threshold_ptr",
           "temperature_ptr", "eps", "scale")  # fmt: skip
_BF16 = ("delta_ptr", "embedding_ptr", "norm_ptr", "router_ptr", "x_ptr", "w_ptr", "qkv_ptr", "keys_ptr", "values_ptr")
_COUNTS = ("layer", "num_layers", "imposed_rows", "recorded_stride", "num_tokens", "num_outputs", "slot_stride", "num_slots")
_SCALARS = ("eps", "scale")
_HEADS = {"H": HEADS, "G": KV_HEADS, "HALF": HALF}


def decoder_builds(*, is_overlapped: bool) -> dict[str, Build]:
    """Every kernel and form; overlapped as on sm_90 and newer, see overlap.py."""
    builds = {f"decoder/norm_route/{form}": _norm(**flags) for form, flags in _NORM_FORMS.items()}
    for tokens in (1, 16, MAX_TOKENS):
        for out in ("bf16", "fp32"):
            options = {"K": HIDDEN, **tile(tokens)}
            builds[f"decoder/thin_linear/{tokens}/{out}"] = _build(thin_linear_kernel, options, y=out)
    for requests in (1, 64):
        options = {**_HEADS, "SPLITS": num_splits(requests, KV_HEADS), "ROWS": ROWS, "BLOCK_C": BLOCK_C, "BLOCK_S": 4}
        builds[f"decoder/slot_attention/{requests}"] = _build(slot_attention_kernel, options | {"num_stages": 2}, out="bf16")
    rotary = {**_HEADS, "BLOCK_HG": 64, "BLOCK_G": 8, "HAS_CACHE": True}
    builds["decoder/rotary_store"] = _build(rotary_store_kernel, rotary)
    for form, is_sampled in (("greedy", False), ("sampled", True)):
        options = {"V": VOCABULARY, "BLOCK_V": BLOCK_V[form], "IS_SAMPLED": is_sampled, "IS_PROMPT": False, "num_warps": 16}
        builds[f"decoder/next_token/{form}"] = _build(next_token_kernel, options, out="i32")
    flags = {"OVERLAP": 2 * is_overlapped, "launch_pdl": is_overlapped}
    return {key: replace(build, options=build.options | flags) for key, build in builds.items()}


_NORM_FORMS = {
    "first": {"IS_FIRST": True, "BY_SLOT": True},
    "plain": {},
    "routed": {"HAS_ROUTER": True},
    "imposed": {"HAS_ROUTER": True, "IMPOSED": True},
}


def _norm(**flags: bool) -> Build:
    constants = {"D": HIDDEN, "BLOCK_D": HIDDEN, "IS_FIRST": False, "BY_SLOT": False, "HAS_ROUTER": False, "IMPOSED": False}
    experts = {"NUM_EXPERTS": EXPERTS, "BLOCK_E": EXPERTS, "TOP_K": TOP_K, "BLOCK_K": TOP_K}
    warps = {"num_warps": num_warps(HIDDEN, EXPERTS)}
    return _build(norm_route_kernel, constants | experts | warps | flags, out="bf16")


def _build(kernel: Any, options: dict[str, Any], **pointers: str) -> Build:
    """`pointers`: what arguments without one type everywhere point to."""
    kinds = dict.fromkeys(_INTS, "*i32") | dict.fromkeys(_FLOATS, "*fp32") | dict.fromkeys(_BF16, "*bf16")
    kinds |= dict.fromkeys(_COUNTS, "i32") | dict.fromkeys(_SCALARS, "fp32") | {"recorded_ptr": "*u8"}
    kinds |= {f"{name}_ptr": f"*{kind}" for name, kind in pointers.items()}
    types = {name: kinds[name] for name in kernel.arg_names if name not in options and name != "OVERLAP"}
    return Build(kernel, types, {"num_warps": 4} | options)
