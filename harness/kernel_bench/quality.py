"""Perplexity of pocket-mixtral under one implementation: what a kernel's speed has to stand beside.

In: an implementation's name and a format. Out: `Quality`, computed once a (name, precision). The shipped checkpoint is
loaded with that implementation forced for `experts` and scores a fixed share of its held-out text, the same windows
everywhere; beside it the reference implementation's perplexity in the same precision, on the weights as the implementation
rounds them where it does, and BF16's. Where it cannot be had,
the reason stands in its place.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from harness.backends import moe_layer
from harness.kernel_bench.contenders import REFERENCE, Contender
from harness.kernel_bench.machine import survive
from harness.precisions import Precision

WINDOW_TOKENS, MAX_TOKENS = 128, 8192
WITHIN = 1e-3
"""A kernel that computes the same arithmetic changes perplexity by far less than 0.1 %: BF16 rounding of y does not add up."""
BF16 = Precision("bf16", "none", "bf16")
LARGE_WINDOW_TOKENS, LARGE_MAX_TOKENS = 512, 65536
"""Where activations are rounded to 8 bits or fewer, on a GPU: a difference in h's last bit sends a share of its elements to the
neighbor, a random 1 % of each layer, and 8192 tokens move by 0.1 to 0.2 % for nothing (docs/kernels.md)."""
SCORED = (
    f"{MAX_TOKENS} tokens of the held-out text, windows of {WINDOW_TOKENS}; on a GPU {LARGE_MAX_TOKENS} and windows of "
    f"{LARGE_WINDOW_TOKENS} where activations are rounded to 8 bits or fewer"
)


@dataclass(frozen=True, slots=True)
class Quality:
    """`within_tolerance`: whether the kernel's perplexity is within 0.1 % of the reference implementation's."""

    perplexity: float | None
    reference_perplexity: float | None
    bf16_perplexity: float | None
    within_tolerance: bool | None
    precision: str | None
    reason: str | None = None

    def fields(self) -> dict:
        """Columns of a row."""
        found = asdict(self)
        own = {"perplexity": found.pop("perplexity")}
        return own | {f"perplexity_{name}": value for name, value in found.items()}


def missing(reason: str) -> Quality:
    return Quality(None, None, None, None, None, reason)


Sample = tuple[int, int]
"""Tokens of a window, tokens in all."""


def sample_of(precision: Precision, device: torch.device) -> Sample:
    """What is scored, see LARGE_MAX_TOKENS."""
    is_rounded = precision.activations not in ("fp32", "bf16")
    if is_rounded and device.type == "cuda":
        return LARGE_WINDOW_TOKENS, LARGE_MAX_TOKENS
    return WINDOW_TOKENS, MAX_TOKENS


class QualityBook:
    """Remembers what was scored; loads the tokenizer and the text once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: dict[tuple[str, str, str | None, Sample], float | str] = {}
        self._windows: dict[Sample, Any] = {}

    def of(self, contender: Contender) -> Quality:
        """Null with the reason for peers, shapes that do not fit and missing files."""
        if contender.is_peer:
            return missing("another project's kernel does not run in this runtime")
        precision = contender.form.precision
        sample = sample_of(precision, self._device)
        own = self._score(contender.name, precision, sample)
        right = self._score(REFERENCE, precision, sample, contender)
        base = self._score(REFERENCE, BF16, sample)
        problem = next((found for found in (own, right, base) if isinstance(found, str)), None)
        own, right, base = (None if isinstance(found, str) else found for found in (own, right, base))
        within = None if own is None or right is None else bool(abs(own / right - 1) <= WITHIN)
        return Quality(own, right, base, within, precision.id, problem)

    def _score(self, name: str, precision: Precision, sample: Sample, rounding: Contender | None = None) -> float | str:
        """The perplexity, on weights rounded as `rounding` does; or the reason that there is none."""
        key = name, precision.id, rounding and rounding.rounds_weights, sample
        if key not in self._known:
            self._known[key] = self._computed(name, precision, sample, rounding)
        return self._known[key]

    def _computed(self, name: str, precision: Precision, sample: Sample, rounding: Contender | None) -> float | str:
        try:
            model = moe_layer.load_pocket(name, **asdict(precision), device=self._device)
            return self._perplexity(model if rounding is None else moe_layer.with_experts(model, rounding.rounded), sample)
        except Exception as error:  # whatever a kernel raises on this shape is the reason that there is no perplexity
            survive(error)
            first = (str(error).splitlines() or [type(error).__name__])[0]
            return f"pocket-mixtral does not run on it: {first}"

    @torch.inference_mode()
    def _perplexity(self, model, sample: Sample) -> float:
        from harness.stats.bits import perplexity

        windows, total = self._heldout(model.config.bos_token_id, sample), 0.0
        for window in windows.tokens:
            tokens = torch.from_numpy(window).to(self._device)
            log_probabilities = model.score(tokens[None, :-1])[0].double().log_softmax(-1)
            total -= float(log_probabilities.gather(-1, tokens[1:, None]).sum())
        if not total == total:
            raise RuntimeError("the logits hold NaN")
        return perplexity(total, windows.num_scored)

    def _heldout(self, bos_id: int, sample: Sample):
        if sample not in self._windows:
            from harness.workload.heldout import encode_text, make_windows

            window, max_tokens = sample
            ids, num_bytes = encode_text(moe_layer.pocket_folder(), moe_layer.pocket_text())
            self._windows[sample] = make_windows(ids, num_bytes, window=window, max_tokens=max_tokens, bos_id=bos_id)
        return self._windows[sample]
