"""Is a contender right? Its output against the reference on the same quantized weights, token by token.

In: a contender bound to a case, the reference's answer. Out: `Verdict`. The reference is plain torch in float32 on the
device (fp4moe.reference). The error of a case is that of its worst token: |y - right| / |right| (Euclidean), so that one
wrong token among thousands is seen. NaN in one token must come out as NaN in that token and in no other.

Shapes: T tokens, D hidden.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.backends import moe_layer
from harness.kernel_bench import routing
from harness.kernel_bench.contenders import Contender, Routed
from harness.kernel_bench.rows import FAILED
from harness.kernel_bench.shapes import LayerShape

AGAINST = "fp4moe.reference in float32 on the same quantized weights, as the row says it rounds them, worst token"
NAN_TOKENS, NAN_TOKEN = 5, 2
ONE_EXPERT_TOKENS = 33
TOKENS = (1, 3, 17, 64)
"""One, an odd few, one more than a tile of 16, a full tile."""


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs of one check, BF16 x."""

    name: str
    x_TD: Tensor
    routed: Routed
    nan_token: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """relative_error: the worst case's worst token; None where nothing could be computed. `status`: of rows where it failed."""

    passed: bool
    relative_error: float | None
    bound: float
    worst_case: str
    reason: str | None = None
    status: str = FAILED


def error_bound(activations: str) -> float:
    """Largest relative error of a token that rounding explains.

    Rounded to BF16 at most five times on the way (gate, up, h, the slot's y, y). One rounding errs by at most 2^-8 of the
    value and by 2^-9 in the root mean square (1.7e-3 for log-uniform values); the five are added up as if all erred in one
    direction. The products accumulate in float32, which adds next to nothing.

    Activations of 8 or 4 bits: an h that is off by 2^-9 before it is rounded may round to the neighbor, one step away. A
    share 2^-9 / step of the elements does, each erring by `step`: root mean square sqrt(2^-9 * step). Doubled, for a
    token's error scatters around that mean and a block's scale may flip too.
    """
    bf16 = 5 * 2.0**-9
    step = {"bf16": 0.0, "fp8": 2.0**-3, "nvfp4": 0.5, "mxfp4": 0.5}[activations]
    return bf16 if step == 0 else 2 * (bf16 + math.sqrt(2.0**-9 * step))


def cases(shape: LayerShape, *, seed: int, device: torch.device) -> list[Case]:
    """Token counts from one on, everything on the same experts, and a NaN."""
    uniform = routing.parse_routing("uniform")
    made = []
    for tokens in TOKENS:
        slots = routing.draw(uniform, tokens, shape.num_experts, shape.top_k, seed=seed, copy=0)
        made.append(make_case(f"{tokens} tokens", slots, shape, seed=seed, device=device))
    slots = routing.one_expert(ONE_EXPERT_TOKENS, shape.num_experts, shape.top_k, seed=seed)
    made.append(make_case(f"{ONE_EXPERT_TOKENS} tokens on {shape.top_k} experts", slots, shape, seed=seed, device=device))
    slots = routing.draw(uniform, NAN_TOKENS, shape.num_experts, shape.top_k, seed=seed, copy=0)
    made.append(make_case("NaN in one token", slots, shape, seed=seed, device=device, nan_token=NAN_TOKEN))
    return made


def make_case(
    name: str, slots: routing.Slots, shape: LayerShape, *, seed: int, device: torch.device, nan_token: int | None = None
) -> Case:
    """x of unit variance, as after a norm; one NaN in the middle of `nan_token`."""
    tokens = len(slots.ids_TK)
    generator = torch.Generator().manual_seed((seed * 7919 + tokens) % 2**32)
    x_TD = torch.randn(tokens, shape.hidden, generator=generator).bfloat16().to(device)
    if nan_token is not None:
        x_TD[nan_token, shape.hidden // 2] = math.nan
    return Case(name, x_TD, on_device(slots, shape, device), nan_token)


def on_device(slots: routing.Slots, shape: LayerShape, device: torch.device) -> Routed:
    """ids int32: what a fused router would write."""
    ids_TK = torch.from_numpy(slots.ids_TK).to(device=device, dtype=torch.int32)
    return Routed(ids_TK, torch.from_numpy(slots.weights_TK).to(device), shape.num_experts)


class References:
    """The reference's answers, computed once a (weights as they are multiplied, activations, case)."""

    def __init__(self, rows: dict[str, tuple]) -> None:
        self._rows = rows
        self._rounded: dict[tuple[str, str | None], tuple] = {}
        self._known: dict[tuple, Tensor] = {}

    def of(self, contender: Contender, case: Case) -> Tensor:
        """float32 [T, D]; the token with the NaN is left to `judge`."""
        weights = contender.form.weights, contender.rounds_weights
        key = (*weights, contender.form.activations, case.name)
        if key not in self._known:
            if weights not in self._rounded:
                self._rounded[weights] = contender.rounded(self._rows[contender.form.weights])
            x_TD, routed, activations = case.x_TD.nan_to_num(), case.routed, contender.form.activations
            answer = moe_layer.reference_layer
            self._known[key] = answer(self._rounded[weights], x_TD, routed.ids_TK, routed.weights_TK, activations=activations)
        return self._known[key]

    def forget(self, case: Case) -> None:
        """Free the answers of a case that does not come again."""
        self._known = {key: right for key, right in self._known.items() if key[-1] != case.name}


def judge(output: Tensor, right: Tensor, case: Case, bound: float) -> Verdict:
    """Of one case."""
    if tuple(output.shape) != tuple(right.shape):
        reason = f"{case.name}: output must be {tuple(right.shape)} (got {tuple(output.shape)})"
        return Verdict(False, None, bound, case.name, reason)
    found, kept = output.float(), torch.ones(len(right), dtype=torch.bool, device=right.device)
    if case.nan_token is not None:
        kept[case.nan_token] = False
        if not bool(found[case.nan_token].isnan().all()):
            return Verdict(False, None, bound, case.name, "NaN in x must give NaN in that token's y, and does not")
    error_T = (found - right)[kept].norm(dim=1) / right[kept].norm(dim=1)
    error = float(error_T.max())
    if not math.isfinite(error):
        return Verdict(False, None, bound, case.name, f"{case.name}: y holds NaN or infinity")
    passed = error <= bound
    reason = None if passed else f"{case.name}: relative error {error:.2e} is over the bound {bound:.2e}"
    return Verdict(passed, error, bound, case.name, reason)


def worst(verdicts: list[Verdict]) -> Verdict:
    """The first that failed, else the one with the largest error."""
    failed = [verdict for verdict in verdicts if not verdict.passed]
    return failed[0] if failed else max(verdicts, key=lambda verdict: verdict.relative_error or 0.0)


def check(contender: Contender, packed, made: list[Case], references: References) -> Verdict:
    """All cases that the contender takes, on copy 0. A peer that cannot be given weights is not checked."""
    bound = error_bound(contender.form.activations)
    verdicts = []
    for case in made:
        if contender.refusal(len(case.x_TD)) is not None or (contender.is_peer and case.nan_token is not None):
            continue  # what another project does with a NaN is its own affair
        try:
            output = contender.bind(packed, case.x_TD, case.routed)()
        except Exception as error:  # whatever a kernel raises, it is this kernel's result and not the run's end
            if case.nan_token is not None and moe_layer.is_format_refusal(error):
                continue  # formats whose codes have no NaN refuse it by name, which hides nothing
            raise
        verdicts.append(judge(output, references.of(contender, case), case, bound))
    if not verdicts:
        return Verdict(True, None, bound, "no case of so few tokens")  # the timed run's output is judged all the same
    return worst(verdicts)
