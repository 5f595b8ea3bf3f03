"""How far two backends give the same answers: greedy tokens, request by request, against the native backend's.

In: a record and the native record of the same model, precision, workload and repeat. Out: metrics, or their reasons. After
the first token that differs the two have different contexts, so that what follows says nothing; only the tokens before
count.
"""

from pathlib import Path

from harness.collect.outputs import read_outputs
from harness.collect.values import measured, missing
from harness.quality import NATIVE, change_metrics

VS_NATIVE = "perplexity_vs_native_pct"
NAMES = ("greedy_agreement_pct", "identical_outputs_pct")
IS_REFERENCE = "this is the native run that other backends are held against"
NO_REFERENCE = "no native run of this model, precision and workload in this run to hold against"
SAMPLED = "outputs are sampled (temperature above 0), and two engines draw differently"


def agreement_metrics(folder: Path, record: dict, reference: dict | None) -> dict[str, dict]:
    """Both metrics of a record; null with the reason where there is nothing to compare."""
    reason = _why_not(record, reference)
    if reason is None:
        try:
            ours, theirs = (read_outputs(folder / r["samples"]["outputs"]) for r in (reference, record))
        except (OSError, ValueError, KeyError) as error:
            reason = f"token ids of the answers cannot be read ({error})"
    if reason is not None:
        return {name: missing(name, reason) for name in NAMES}
    shared = [(ours[name], theirs[name]) for name in ours if name in theirs]
    total = sum(len(a) for a, _ in shared)
    if not total:
        return {name: missing(name, "no request was answered by both") for name in NAMES}
    same = sum(common_prefix(a, b) for a, b in shared)
    identical = sum(a == b for a, b in shared)
    values = (100 * same / total, 100 * identical / len(shared))
    return {name: measured(name, value, len(shared)) for name, value in zip(NAMES, values, strict=True)}


def quality_agreement(folder: Path, record: dict, reference: dict | None) -> dict[str, dict]:
    """perplexity_vs_native_pct of a `heldout` record: paired by token with native in the same precision."""
    reason = NO_REFERENCE if reference is None else IS_REFERENCE if reference["cell_id"] == record["cell_id"] else None
    if reason is None:
        change = change_metrics(folder, record, reference)["perplexity_change_pct"]
        reason = change["reason"]
    if reason is not None:
        return {VS_NATIVE: missing(VS_NATIVE, reason)}
    return {VS_NATIVE: measured(VS_NATIVE, change["value"], change["n"])}


def common_prefix(a: list[int], b: list[int]) -> int:
    """Tokens before the first that differs."""
    pairs = zip(a, b, strict=False)
    return next((index for index, (left, right) in enumerate(pairs) if left != right), min(len(a), len(b)))


def find_reference(records: list[dict], record: dict) -> dict | None:
    """The finished native record of the same question; the record itself where it is the native one."""
    if record["backend"] == NATIVE:
        return record

    def question(other: dict) -> tuple:
        return other["model"], other["precision"]["id"], other["workload"]["name"], other["repeat"]

    wanted = [r for r in records if r["backend"] == NATIVE and r["status"] == "ok" and question(r) == question(record)]
    return wanted[0] if wanted else None


def _why_not(record: dict, reference: dict | None) -> str | None:
    if record["workload"]["sampling"]["temperature"] > 0:
        return SAMPLED
    if (record["weights"] or {}).get("source") == "random":
        return "random weights differ between engines"
    if reference is None:
        return NO_REFERENCE
    if reference["cell_id"] == record["cell_id"]:
        return IS_REFERENCE
    if "outputs" not in record["samples"]:
        return "this backend does not tell the token ids of its answers"
    return None
