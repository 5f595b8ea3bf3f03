"""The workloads at which a claim of speed is tried, each with what the projection says and with its roofline.

In: a term on a GPU. Out: Trial rows over what the term leaves open: batches that fit, prompts. Judges nothing; see sweep.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.claims.evidence import mixtral
from harness.claims.grammar import Check, Term
from harness.project.estimate import Estimate
from harness.project.gpus import GpuSpec
from harness.project.kernels import candidates_on
from harness.project.projection import Ask, Projection, project

METRIC = {
    "throughput": "output_throughput",
    "decode throughput": "decode_throughput",
    "ttft": "median_ttft_ms",
    "tpot": "median_tpot_ms",
}
PROMPTS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
RATE_PROMPTS = (128, 1024)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
OUTPUT = 128
HIGHER = ("throughput", "decode throughput")


@dataclass(frozen=True, slots=True)
class Trial:
    """One workload: the estimate of the best kernel, and of the weakest limit over all kernels."""

    ask: Ask
    estimate: Estimate
    projection: Projection
    limit: float
    """The roofline: no implementation of this precision is faster."""

    def surely(self, check: Check) -> bool:
        """Whether even the slow end holds."""
        return holds(self.slow(check), check)

    def maybe(self, check: Check) -> bool:
        return holds(self.fast(check), check)

    def slow(self, check: Check) -> float:
        return self.estimate.low if check.left.quantity in HIGHER else self.estimate.high

    def fast(self, check: Check) -> float:
        return self.estimate.high if check.left.quantity in HIGHER else self.estimate.low


def holds(value: float, check: Check) -> bool:
    """`=` and `~` of a speed are read as "at least as good as": a claim of 1850 is not broken by 2000."""
    limit = check.right.number
    if check.left.quantity in HIGHER:
        return value < limit if check.relation in ("<", "<=") else value >= limit
    return value > limit if check.relation in (">", ">=") else value <= limit


def trials_of(term: Term, gpu: GpuSpec) -> list[Trial]:
    """Every workload that the term leaves open and that some kernel can run."""
    return [trial for ask in _asks(term, gpu) if (trial := _trial(term, gpu, ask)) is not None]


def _asks(term: Term, gpu: GpuSpec) -> Iterator[Ask]:
    given = {key: int(term.qualifiers[key]) for key in ("batch", "prompt", "output") if key in term.qualifiers}
    output = given.get("output", OUTPUT)
    if term.quantity == "ttft":
        for prompt in [given["prompt"]] if "prompt" in given else PROMPTS:
            yield Ask(prompt, output, 1)
        return
    for prompt in [given["prompt"]] if "prompt" in given else RATE_PROMPTS:
        if "batch" in given:
            yield Ask(prompt, output, given["batch"])
            continue
        most = max((p.fit.max_batch for p in _projections(term, gpu, Ask(prompt, output, 1))), default=0)
        for batch in [batch for batch in BATCHES if batch < most] + ([min(most, BATCHES[-1])] if most else []):
            yield Ask(prompt, output, batch)


def _projections(term: Term, gpu: GpuSpec, ask: Ask) -> list[Projection]:
    wanted = term.qualifiers.get("with", "nvfp4").split("-")
    rows = [row for row in candidates_on(gpu) if row.weights == wanted[0]]
    if len(wanted) > 1:
        activations = {"a16": "bf16", "a8": "fp8", "a4": wanted[0]}.get(wanted[-1])
        rows = [row for row in rows if row.activations == activations]
    if "kernel" in term.qualifiers:
        rows = [row for row in rows if row.kernel == term.qualifiers["kernel"]]
    return [project(gpu, mixtral(), row, ask) for row in rows]


def _trial(term: Term, gpu: GpuSpec, ask: Ask) -> Trial | None:
    made = [p for p in _projections(term, gpu, ask) if p.metrics]
    if not made:
        return None
    metric, is_rate = METRIC[term.quantity], term.quantity in HIGHER
    pick = max if is_rate else min
    best = pick(made, key=lambda p: (p.metrics[metric].low * p.metrics[metric].high) ** 0.5)
    return Trial(ask, best.metrics[metric], best, pick(_limit(p, term.quantity) for p in made))


def _limit(projection: Projection, quantity: str) -> float:
    """The quantity if everything ran at the roofline with full overlap and the engine cost nothing."""
    step, ask = projection.step, projection.ask
    decode = step.decode(ask.batch, ask.prompt + ask.output / 2).low_ms
    prefill = step.prefill(ask.prompt, ask.batch).low_ms
    return {
        "ttft": step.prefill(ask.prompt).low_ms,
        "tpot": decode,
        "decode throughput": ask.batch / decode * 1e3,
        "throughput": ask.batch * ask.output / (prefill + decode * (ask.output - 1)) * 1e3,
    }[quantity]


def why_none(term: Term, gpu: GpuSpec) -> str:
    made = _projections(term, gpu, Ask(int(term.qualifiers.get("prompt", 128)), OUTPUT, int(term.qualifiers.get("batch", 1))))
    reasons = dict.fromkeys(p.reason for p in made if p.reason)
    return "; ".join(reasons) or f"no kernel with a measured curve runs {term.qualifiers.get('with', 'nvfp4')} on {gpu.family}"
