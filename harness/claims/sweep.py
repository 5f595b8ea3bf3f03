"""Claims of speed: where do they hold, over batch, prompt and output, for every way to run the precision on that GPU?

In: a check whose left side is a rate or a time on a GPU. Out: Finding. A recorded whole-model measurement of exactly that
workload counts first. Else the projection is swept over what the claim leaves open; the fast end of a projection is the
roofline limit, so that what even it does not reach is impossible, and not merely unlikely.
"""

from harness.claims.evidence import MODEL, Evidence
from harness.claims.grammar import Check
from harness.claims.trials import HIGHER, METRIC, Trial, holds, trials_of, why_none
from harness.claims.verdicts import (
    CONTRADICTED,
    IMPOSSIBLE,
    MEASURED,
    NOT_TESTABLE,
    SUPPORTED,
    UNDERSPECIFIED,
    Finding,
)
from harness.project.estimate import PROJECTED, UNVALIDATED
from harness.project.gpus import GpuSpec, gpu_spec
from harness.report.numbers import significant


def judge_speed(check: Check, evidence: Evidence) -> Finding:
    """The verdict on a rate or a time."""
    term = check.left
    if "on" not in term.qualifiers:
        return Finding(check.source, UNDERSPECIFIED, "none", "names no GPU: a speed holds on some and not on others")
    gpu = gpu_spec(term.qualifiers["on"])
    recorded = _recorded(check, gpu, evidence)
    if recorded is not None:
        return recorded
    trials = trials_of(term, gpu)
    if not trials:
        return Finding(check.source, NOT_TESTABLE, "none", why_none(term, gpu))
    return _verdict(check, gpu, trials)


def _verdict(check: Check, gpu: GpuSpec, trials: list[Trial]) -> Finding:
    sources = tuple(dict.fromkeys(line for trial in trials[:1] for line in trial.projection.basis))
    basis = PROJECTED if trials[0].projection.is_validated else UNVALIDATED
    surely, maybe = ([t for t in trials if test(t, check)] for test in (Trial.surely, Trial.maybe))
    pick = max if check.left.quantity in HIGHER else min
    best = pick(trials, key=lambda t: t.fast(check))
    if not any(holds(trial.limit, check) for trial in trials):
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
    good = [holds(value, check) for value in values]
    verdict = SUPPORTED if all(good) else CONTRADICTED if not any(good) else UNDERSPECIFIED
    text = f"{significant(min(values))} to {significant(max(values))} {check.right.unit}, n = {len(values)}"
    return Finding(check.source, verdict, MEASURED, text, tuple(dict.fromkeys(row["source"] for row in rows)))


def _at(trial: Trial) -> str:
    ask = trial.ask
    return f"{ask.prompt} in, {ask.output} out, batch {ask.batch}"


def _words(trial: Trial) -> str:
    return f"{trial.estimate.text} ({trial.estimate.label}, {trial.projection.candidate.kernel})"


def _floor(trial: Trial, gpu: GpuSpec) -> str:
    step = trial.projection.step
    read, product = step.ceilings.read_gb_s, max(step.ceilings.product_tflops.values())
    return f"{MODEL} on {gpu.name} at {read:.0f} GB/s and {product:.0f} TFLOP/s with nothing else to do"
