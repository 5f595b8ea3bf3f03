"""Perplexity and bits per byte from a summed negative log-likelihood.

In: the NLL summed over scored tokens, in nats, and the number of tokens or of the UTF-8 bytes those tokens
spell. Out: one number. Perplexity is per token, so it compares only runs with one tokenizer; bits per byte
compares any two. Neither says how sure it is: see `paired`.
"""

import math
import sys

from harness.stats.errors import StatsError

# exp of more than this overflows a float64.
MAX_MEAN_NLL_NATS = math.log(sys.float_info.max)


def mean_nll_nats(nll_sum_nats: float, num_tokens: int) -> float:
    """NLL a token, in nats."""
    _check(nll_sum_nats, num_tokens, "num_tokens")
    return nll_sum_nats / num_tokens


def perplexity(nll_sum_nats: float, num_tokens: int) -> float:
    """exp(NLL / tokens): the geometric mean over scored tokens of 1 / probability."""
    mean = mean_nll_nats(nll_sum_nats, num_tokens)
    if mean > MAX_MEAN_NLL_NATS:
        raise StatsError(
            f"nll_sum_nats / num_tokens: must stay below {MAX_MEAN_NLL_NATS:.1f} nats (got {mean:.1f}); "
            "check that the sum is in nats"
        )
    return math.exp(mean)


def bits_per_byte(nll_sum_nats: float, num_bytes: int) -> float:
    """NLL in bits over the number of UTF-8 bytes of the scored text: NLL / (ln 2 * bytes)."""
    _check(nll_sum_nats, num_bytes, "num_bytes")
    return nll_sum_nats / (math.log(2) * num_bytes)


def _check(nll_sum_nats: float, count: int, name: str) -> None:
    if not math.isfinite(nll_sum_nats) or nll_sum_nats < 0:
        raise StatsError(f"nll_sum_nats: must be finite and not negative (got {nll_sum_nats})")
    if count < 1:
        raise StatsError(f"{name}: must be at least 1 (got {count}); record null with a reason instead")
