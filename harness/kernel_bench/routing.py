"""Which experts the benchmarked tokens go to: uniform, Zipf, two hot experts, or a recorded histogram replayed.

In: `--routing` text, sizes, a seed. Out: expert ids and router weights. Every draw is a function of (seed, tokens, copy).
The router's product, softmax and top-k are not part of the benchmark; ids and weights are its input.

    uniform       K distinct experts a token, all alike
    zipf[:s]      expert e with weight (e + 1)^-s, drawn without replacement (s = 1); shares flatten as K nears E
    hot70         exactly 70 % of the slots (to whole slots) on experts 0 and 1, the rest even
    recorded:FILE the counts per expert of a file: exactly where they sum to T * K, else scaled by largest remainders

Shapes: T tokens, K experts a token, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.errors import UsageError
from harness.kernel_bench.apportion import apportion
from harness.kernel_bench.recorded import read_counts

ALLOWED = "uniform, zipf, zipf:S, hot70, recorded:FILE"
HOT_SHARE, NUM_HOT = 0.7, 2


@dataclass(frozen=True, slots=True)
class RoutingSpec:
    """A parsed `--routing`. `shares_E`: where the histogram is fixed; `recorded_counts` as the file has them."""

    text: str
    name: str
    parameters: dict = field(default_factory=dict)
    recorded_counts: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Slots:
    """ids_TK int64, the heaviest first; weights_TK float32, rows sum to 1."""

    ids_TK: np.ndarray
    weights_TK: np.ndarray

    @property
    def num_hit(self) -> int:
        """Experts with at least one token."""
        return len(np.unique(self.ids_TK))


def parse_routing(text: str) -> RoutingSpec:
    """UsageError listing what is allowed, or what is wrong with the file."""
    name, colon, argument = text.partition(":")
    if text == "uniform":
        return RoutingSpec(text, name)
    if text == "hot70":
        return RoutingSpec(text, name, {"hot_share": HOT_SHARE, "hot_experts": list(range(NUM_HOT))})
    if name == "recorded" and argument:
        counts = read_counts(argument)
        return RoutingSpec(text, name, {"file": argument, "counts": list(counts)}, counts)
    if name == "zipf" and (not colon or argument):
        return RoutingSpec(text, name, {"exponent": _exponent(argument or "1")})
    raise UsageError(f"--routing: must be one of {ALLOWED} (got {text!r})")


def _exponent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 10:
        raise UsageError(f"--routing: zipf's exponent must be a number from 0 to 10 (got {text!r}); zipf:1 is usual")
    return value


def draw(spec: RoutingSpec, tokens: int, num_experts: int, top_k: int, *, seed: int, copy: int) -> Slots:
    """The slots of one copy of the layer; UsageError where the histogram does not fit the shape."""
    generator = np.random.default_rng([seed, tokens, copy])
    if spec.name in ("hot70", "recorded"):
        counts_E = fixed_counts(spec, tokens, num_experts, top_k)
        ids_TK = _with_counts(counts_E, tokens, top_k, generator)
    else:
        exponent = spec.parameters.get("exponent", 0.0)
        ids_TK = _drawn(np.arange(1, num_experts + 1) ** -exponent, tokens, top_k, generator)
    weights_TK = np.sort(generator.uniform(0.1, 1.0, (tokens, top_k)))[:, ::-1]
    weights_TK = (weights_TK / weights_TK.sum(1, keepdims=True)).astype(np.float32)
    return Slots(ids_TK, np.ascontiguousarray(weights_TK))


def one_expert(tokens: int, num_experts: int, top_k: int, *, seed: int) -> Slots:
    """All tokens on the same experts, the last ones: most of the layer has nothing to do."""
    weights_TK = draw(RoutingSpec("uniform", "uniform"), tokens, num_experts, top_k, seed=seed, copy=0).weights_TK
    ids_TK = np.broadcast_to(np.arange(num_experts - top_k, num_experts)[::-1], (tokens, top_k))
    return Slots(np.ascontiguousarray(ids_TK), weights_TK)


def check_fits(spec: RoutingSpec, num_experts: int, top_k: int) -> None:
    """UsageError where the histogram does not fit a layer of these sizes, whatever the number of tokens."""
    if spec.name in ("hot70", "recorded"):
        _shares(spec, num_experts, top_k)


def fixed_counts(spec: RoutingSpec, tokens: int, num_experts: int, top_k: int) -> np.ndarray:
    """int64 [E]: the histogram of `hot70` or `recorded` at this number of tokens."""
    shares_E = _shares(spec, num_experts, top_k)
    return apportion(shares_E, tokens * top_k, tokens)


def _shares(spec: RoutingSpec, num_experts: int, top_k: int) -> np.ndarray:
    if spec.name == "hot70":
        if num_experts <= NUM_HOT:
            raise UsageError(f"--routing hot70: needs more than {NUM_HOT} experts (got {num_experts}); use uniform")
        rest = (1 - HOT_SHARE) / (num_experts - NUM_HOT)
        return np.array([HOT_SHARE / NUM_HOT] * NUM_HOT + [rest] * (num_experts - NUM_HOT))
    counts_E = np.array(spec.recorded_counts, dtype=np.float64)
    if len(counts_E) < num_experts and not spec.text.endswith(".json"):  # samples: the last experts were never hit
        counts_E = np.pad(counts_E, (0, num_experts - len(counts_E)))
    if len(counts_E) != num_experts:
        raise UsageError(f"--routing {spec.text}: must have a count for each of {num_experts} experts (got {len(counts_E)})")
    largest = counts_E.max() / counts_E.sum()
    # A recorder's own top-k histogram never exceeds 1 / K; half a percent is left for sums over several layers.
    if largest > 1 / top_k + 0.005:
        raise UsageError(
            f"--routing {spec.text}: an expert must take at most 1 / {top_k} of the slots, for a token takes it at most once "
            f"(got {largest:.3f}); this is no top-{top_k} histogram"
        )
    return counts_E / counts_E.sum()


def _with_counts(counts_E: np.ndarray, tokens: int, top_k: int, generator: np.random.Generator) -> np.ndarray:
    """ids with exactly these counts and no expert twice in a token.

    Slots sorted by expert are dealt to the tokens in turn: an expert's slots lie next to each other and are at most T, so
    they reach different tokens. The experts' order, the tokens' order and the order within a token are shuffled.
    """
    experts = generator.permutation(len(counts_E))
    ids_TK = np.repeat(experts, counts_E[experts]).reshape(top_k, tokens).T
    return generator.permuted(generator.permutation(ids_TK, axis=0), axis=1).astype(np.int64)


def _drawn(weight_E: np.ndarray, tokens: int, top_k: int, generator: np.random.Generator) -> np.ndarray:
    """Without replacement in proportion to `weight_E`: the K smallest exponential waiting times (Efraimidis, Spirakis)."""
    waiting_TE = generator.exponential(size=(tokens, len(weight_E))) / weight_E
    return np.argsort(waiting_TE, axis=1, kind="stable")[:, :top_k].astype(np.int64)
