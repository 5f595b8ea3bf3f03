"""Claims of speed: where do they hold, over batch, prompt and output, for every way to run the precision on that GPU?

In: a check whose left side is a rate or a time on a GPU. Out: Finding. A recorded whole-model measurement of exactly that
workload counts first. Else the projection is swept over what the claim leaves open; the fast end of a projection is the
roofline limit, so that what even it does not reach is impossible, and not merely unlikely.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.claims.evidence import MODEL, Evidence, mixtral
from harness.claims.grammar import Check, Term
from harness.claims.verdicts import (
    CONTRADICTED,
    IMPOSSIBLE,
    MEASURED,
    NOT_TESTABLE,
    SUPPORTED,
    UNDERSPECIFIED,
    Finding,
)
from harness.project.estimate import PROJECTED, UNVALIDATED, Estimate
from harness.project.gpus import GpuSpec, gpu_spec
from harness.project.kernels import candidates_on
from harness.project.projection import Ask, Projection, project
from harness.report.numbers import significant

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
        return _holds(self.slow(check), check)

    def maybe(self, check: Check) -> bool:
        return _holds(self.fast(check), check)

    def slow(self, check: Check) -> float:
        return self.estimate.low if check.left.quantity in HIGHER else self.estimate.high

    def fast(self, check: Check) -> float:
        return self.estimate.high if check.left.quantity in HIGHER else self.estimate.low


def _holds(value: float, check: Check) -> bool:
    """`=` and `~` of a speed are read as "at least as good as": a claim of 1850 is not broken by 2000."""
    limit = check.right.number
    if check.left.quantity in HIGHER:
        return value < limit if check.relation in ("<", "<=") else value >= limit
    return value > limit if check.relation in (">", ">=") else value <= limit


def judge_speed(check: Check, evidence: Evidence) -> Finding:
    """The verdict on a rate or a time."""
    term = check.left
    if "on" not in term.qualifiers:
        return Finding(check.source, UNDERSPECIFIED, "none", "names no GPU: a speed holds on some and not on others")
    gpu = gpu_spec(term.qualifiers["on"])
    recorded = _recorded(check, gpu, evidence)
    if recorded is not None:
        return recorded
    trials = [trial for ask in _asks(term, gpu) if (trial := _trial(term, gpu, ask)) is not None]
    if not trials:
        return Finding(check.source, NOT_TESTABLE, "none", _why_none(term, gpu))
    return _verdict(check, gpu, trials)


def _verdict(check: Check, gpu: GpuSpec, trials: list[Trial]) -> Finding:
    sources = tuple(dict.fromkeys(line for trial in trials[:1] for line in trial.projection.basis))
    basis = PROJECTED if trials[0].projection.is_validated else UNVALIDATED
    surely, maybe = ([t for t in trials if test(t, check)] for test in (Trial.surely, Trial.maybe))
    pick = max if check.left.quantity in HIGHER else min
    best = pick(trials, key=lambda t: t.fast(check))
    if not any(_holds(trial.limit, check) for trial in trials):
        text = f"the limit alone is {significant(best.limit)} {check.right.unit} at best ({_at(best)}): {_floor(best, gpu)}"
        return Finding(check.source, IMPOSSIBLE, "computed", text, sources)
    span = f"{_words(best)} at {_at(best)}"
    if len(surely) == len(trials):
        return Finding(check.source, SUPPORTED, basis, f"holds everywhere looked at; at best {span}", sources)
    if not maybe:
        return Finding(check.source, CONTRADICTED, basis, f"nowhere reached: at best {span}", sources)
    if len(trials) == 1:
        return Finding(check.source, NOT_TESTABLE, basis, f"within the projection's range: {span}; measure it there", sources)
    return Finding(check.source, UNDERSPECIFIED, basis, _conditions(check, trials), sources)


def _conditions(check: Check, trials: list[Trial]) -> str:
    """`128 in, 128 out: surely from batch 64 on, perhaps from 32 on`."""
    if check.left.quantity == "ttft":
        surely = [t.ask.prompt for t in trials if t.surely(check)]
        maybe = [t.ask.prompt for t in trials if t.maybe(check)]
        never = min((t.ask.prompt for t in trials if not t.maybe(check)), default="any")
        ends = f"surely up to {max(surely, default=0) or 'no'} tokens, perhaps up to {max(maybe)}, not at {never} and more"
        return f"depends on the prompt, which it does not name: {ends}"
    parts = []
    for prompt in dict.fromkeys(trial.ask.prompt for trial in trials):
        ours = [trial for trial in trials if trial.ask.prompt == prompt]
        surely, maybe = (_from(ours, test, check) for test in (Trial.surely, Trial.maybe))
        most = max(ours, key=lambda t: t.ask.batch)
        text = f"{prompt} in, {ours[0].ask.output} out: "
        text += f"surely from batch {surely} on, " if surely else "surely at no batch, "
        never = f"not reached, {_words(most)} at batch {most.ask.batch}, the largest looked at"
        text += f"perhaps from {maybe} on" if maybe else never
        parts.append(text)
    return f"depends on batch and lengths, which it does not name: {'; '.join(parts)}"


def _from(trials: list[Trial], test, check: Check) -> int | None:
    """The smallest batch from which all larger ones pass."""
    passing = None
    for trial in sorted(trials, key=lambda t: -t.ask.batch):
        if not test(trial, check):
            break
        passing = trial.ask.batch
    return passing


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


def _recorded(check: Check, gpu: GpuSpec, evidence: Evidence) -> Finding | None:
    """A measured whole model of exactly that workload."""
    given, weights = check.left.qualifiers, check.left.qualifiers.get("with", "nvfp4").split("-")[0]
    key = {"throughput": "output_throughput", "decode throughput": "decode_throughput"}.get(check.left.quantity)
    key = key or METRIC.get(check.left.quantity)
    rows = [
        row for row in evidence.models
        if row["gpu"] == gpu.name and row["weights"] == weights and row.get(key) is not None
        and all(str(row[name]) == given.get(name) for name in ("batch", "prompt", "output"))
    ]  # fmt: skip
    if not rows:
        return None
    values = [row[key] for row in rows]
    good = [_holds(value, check) for value in values]
    verdict = SUPPORTED if all(good) else CONTRADICTED if not any(good) else UNDERSPECIFIED
    text = f"{significant(min(values))} to {significant(max(values))} {check.right.unit}, n = {len(values)}"
    return Finding(check.source, verdict, MEASURED, text, tuple(dict.fromkeys(row["source"] for row in rows)))


def _why_none(term: Term, gpu: GpuSpec) -> str:
    made = _projections(term, gpu, Ask(int(term.qualifiers.get("prompt", 128)), OUTPUT, int(term.qualifiers.get("batch", 1))))
    reasons = dict.fromkeys(p.reason for p in made if p.reason)
    return "; ".join(reasons) or f"no kernel with a measured curve runs {term.qualifiers.get('with', 'nvfp4')} on {gpu.family}"


def _at(trial: Trial) -> str:
    ask = trial.ask
    return f"{ask.prompt} in, {ask.output} out, batch {ask.batch}"


def _words(trial: Trial) -> str:
    return f"{trial.estimate.text} ({trial.estimate.label}, {trial.projection.candidate.kernel})"


def _floor(trial: Trial, gpu: GpuSpec) -> str:
    step = trial.projection.step
    read, product = step.ceilings.read_gb_s, max(step.ceilings.product_tflops.values())
    return f"{MODEL} on {gpu.name} at {read:.0f} GB/s and {product:.0f} TFLOP/s with nothing else to do"
