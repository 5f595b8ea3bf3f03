"""The layers that test_triton_interpreted.py computes, with the reason for each; imports no Triton."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A layer and who goes where. `row_scales`: NVFP4 tensor scales one a row, as imported gate and up may have."""

    id: str
    weights: str
    activations: str
    experts_TK: tuple[tuple[int, ...], ...]
    num_experts: int = 3
    hidden: int = 64
    intermediate: int = 96
    dtype: str = "float32"
    row_scales: bool = False
    nan_token: int | None = None

    @property
    def limit(self) -> float:
        """Most of |y - reference| / |reference|.

        Both round x alike and multiply exactly; sums of at most 160 products in another order differ by sqrt(160) 2^-23 =
        2^-19. One value of h in 96 may then fall on the other side of a rounding: a BF16 step of 2^-8 moves y by 2^-11, of
        FP8, 2^-3, by 2^-6.3. A y in BF16 is rounded by 2^-9. What the limits must tell apart: no rounding of h to FP8 at all
        errs by .026, above 2^-6 (asserted beside each FP8 case).
        """
        limit = 2.0**-6 if self.activations == "fp8" else 2.0**-10
        return limit + (2.0**-9 if self.dtype == "bfloat16" else 0.0)


_PAIRS = (("nvfp4", "bf16"), ("mxfp4", "bf16"), ("nvfp4", "fp8"), ("mxfp4", "fp8"), ("fp8", "fp8"), ("bf16", "bf16"))
_MIXED = ((0, 2), (2, 0), (0, 1), (2, 1), (1, 0))
_FULL_TILE = ((1, 0),) * 17

CASES = (
    *(Case(f"{w}-{a}-one-token", w, a, ((2, 0),)) for w, a in _PAIRS),
    *(Case(f"{w}-{a}-tail-of-both-reductions", w, a, _MIXED, hidden=160) for w, a in _PAIRS),
    *(Case(f"{w}-{a}-an-expert-without-tokens-and-a-second-tile", w, a, _FULL_TILE) for w, a in _PAIRS),
    *(Case(f"{w}-{a}-nan-in-one-token", w, a, _MIXED, nan_token=1) for w, a in _PAIRS),
    Case("nvfp4-bf16-all-on-one-expert-top-1", "nvfp4", "bf16", ((1,),) * 5),
    Case("nvfp4-bf16-bf16-in-and-out", "nvfp4", "bf16", _MIXED, dtype="bfloat16"),
    Case("nvfp4-bf16-a-tensor-scale-a-row", "nvfp4", "bf16", _MIXED, row_scales=True),
    Case("nvfp4-fp8-a-tensor-scale-a-row", "nvfp4", "fp8", _MIXED, row_scales=True),
    Case("nvfp4-bf16-whole-blocks-no-tail", "nvfp4", "bf16", _MIXED, hidden=128, intermediate=256),
    Case("nvfp4-bf16-one-block-of-16-a-row", "nvfp4", "bf16", _MIXED, hidden=16, intermediate=16),
)
