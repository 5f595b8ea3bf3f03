"""The implementations that exist, in order of preference within an operation.

A row is added in the change that adds its code, never before (tested). What a row's fields mean: implementation.py. Nothing
here decides; see choose.py and by_tokens.py. Which row is faster at which number of tokens on a GPU: tuned/.
"""

from __future__ import annotations

from fp4moe.select.conditions import AnyDevice, AnyOf, AtLeast, Family, OneOf
from fp4moe.select.implementation import REFERENCE, Implementation
from fp4moe.select.limits import ShapeLimits

OPS = ("route", "experts")

# Keys of formats.WEIGHT_FORMATS and ACTIVATION_FORMATS, repeated so that this needs no torch (tested equal).
ALL_WEIGHTS = ("bf16", "fp8", "nvfp4", "mxfp4", "int4", "ternary")
ALL_ACTIVATIONS = ("fp32", "bf16", "fp8", "nvfp4", "mxfp4")

_FP4 = ("nvfp4", "mxfp4")
_TRITON = ("triton", "cc")
_FRAGMENTS = "fp4moe.cuda.fragments"
_FRAGMENT_FILES = (
    "cuda/fragments.py", "cuda/fragments_layout.py", "cuda/moe_sm90.cu", "cuda/moe_plan_sm90.cuh",
    "cuda/moe_products_sm90.cuh", "cuda/fp4_fragments.cuh", "cuda/wgmma_sm90.cuh", "cuda/sm90_async.cuh",
)  # fmt: skip
_E4M3_FILES = (
    "cuda/e4m3.py", "cuda/e4m3_layout.py", "cuda/moe_e4m3_sm90.cu", "cuda/e4m3_prepare.cuh", "cuda/e4m3_fragments.cuh",
    "cuda/wgmma_e4m3_sm90.cuh", "cuda/wgmma_sm90.cuh", "cuda/sm90_async.cuh", "cuda/sm90_cluster.cuh",
)  # fmt: skip
_W4A4_FILES = tuple(f"triton/w4a4{part}.py" for part in ("", "_dot", "_kernels", "_layout", "_quantize", "_slots"))
_GROUPED_FILES = tuple(
    f"triton/{name}.py" for name in ("experts", "rows", "sort", "gemm", "gemm_launch", "tiles", "bits", "combine")
)


def _reference(op: str) -> Implementation:
    return Implementation(
        op=op,
        name=REFERENCE,
        weight_formats=ALL_WEIGHTS,
        activation_formats=ALL_ACTIVATIONS,
        capabilities=(AnyDevice(),),
        target=f"fp4moe.reference:{op}",
        note="plain torch in float32, the definition of right; slow",
    )


def _fragments(name: str, note: str, *, max_slots: int | None = None) -> Implementation:
    """A width of tiles of the Hopper kernel: the same weights, needs and roundings."""
    return Implementation(
        op="experts",
        name=f"cuda-fragments-{name}",
        weight_formats=_FP4,
        activation_formats=("bf16",),
        capabilities=(Family("sm_90"),),
        target=f"{_FRAGMENTS}:{name}",
        note=note,
        max_slots=max_slots,
        layout="fragments",
        pack=f"{_FRAGMENTS}:pack",
        limits=ShapeLimits(hidden_multiple=128, intermediate_multiple=128, max_experts=64),
        needs=("nvcc",),
        rounds=("h_bf16",),
        source_files=_FRAGMENT_FILES,
    )


def _e4m3(name: str, weights: tuple[str, ...], note: str, *, rounds: tuple[str, ...] = ()) -> Implementation:
    """The kernel of Hopper's FP8 tensor cores for some weights."""
    return Implementation(
        op="experts",
        name=name,
        weight_formats=weights,
        activation_formats=("fp8",),
        capabilities=(Family("sm_90"),),
        target="fp4moe.cuda.e4m3:experts",
        note=note,
        layout="e4m3",
        pack="fp4moe.cuda.e4m3:pack",
        limits=ShapeLimits(
            hidden_multiple=128, intermediate_multiple=128, max_hidden=32768, max_intermediate=32768, max_experts=64
        ),
        needs=("nvcc",),
        rounds=(*rounds, "fp8_long_sums", "h_bf16"),
        rounds_weights="fp4moe.cuda.e4m3_layout:as_fp8" if rounds else None,
        source_files=_E4M3_FILES,
    )


_ROUTE = (
    Implementation(
        op="route",
        name="triton-route",
        weight_formats=ALL_WEIGHTS,
        activation_formats=ALL_ACTIVATIONS,
        capabilities=(AtLeast("sm_80"),),
        target="fp4moe.triton.route:route",
        note="softmax and top-k in one kernel",
        needs=_TRITON,
        source_files=("triton/route.py", "triton/bits.py", "triton/device.py"),
    ),
    _reference("route"),
)

_EXPERTS = (
    _fragments("decode", "few tokens: narrow tiles through mma.sync, both products in one persistent kernel", max_slots=256),
    _fragments("rows", "the same with less to issue and coarser units of work: where issue is the limit", max_slots=256),
    _fragments("grouped", "many tokens: wgmma with weights expanded to BF16 in registers"),
    _e4m3("cuda-e4m3", _FP4, "FP8 tensor cores: weights rounded to E4M3 in registers", rounds=("w_e4m3",)),
    _e4m3("cuda-fp8", ("fp8",), "FP8 tensor cores: weights as they are"),
    Implementation(
        op="experts",
        name="triton-w4a4",
        weight_formats=_FP4,
        activation_formats=_FP4,
        capabilities=(AnyOf((Family("sm_100"), OneOf(("sm_120",)))),),  # for sm_121 Triton 3.6 has no FP4 product
        target="fp4moe.triton.w4a4:experts",
        note="both operands on the FP4 tensor cores",
        layout="triton-w4a4",
        pack="fp4moe.triton.w4a4:pack",
        pairs=(("nvfp4", "nvfp4"), ("mxfp4", "mxfp4")),
        limits=ShapeLimits(hidden_multiple=128, intermediate_multiple=128),
        needs=_TRITON,
        source_files=_W4A4_FILES,
    ),
    Implementation(
        op="experts",
        name="triton-grouped",
        weight_formats=("nvfp4", "mxfp4", "fp8", "bf16"),
        activation_formats=("bf16", "fp8"),
        capabilities=(AtLeast("sm_80"),),
        target="fp4moe.triton.experts:experts",
        note="weights as stored, expanded in registers",
        pairs=(
            ("nvfp4", "bf16"), ("mxfp4", "bf16"), ("nvfp4", "fp8"), ("mxfp4", "fp8"), ("fp8", "fp8"), ("bf16", "bf16"),
        ),
        more_for=(("fp8", AtLeast("sm_89")),),
        needs=_TRITON,
        rounds=("fp8_sums",),
        source_files=_GROUPED_FILES,
    ),
    _reference("experts"),
)  # fmt: skip

IMPLEMENTATIONS: tuple[Implementation, ...] = _ROUTE + _EXPERTS
NAMES: tuple[str, ...] = tuple(dict.fromkeys(row.name for row in IMPLEMENTATIONS))
