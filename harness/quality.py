"""What a precision costs in quality against BF16: the paired change of perplexity, from two records' token NLLs.

In: a `heldout` record and the BF16 record of the same model. Out: three metrics, or their reasons.
The interval is over windows (harness.stats.paired): tokens of one window are not independent.
"""

from pathlib import Path

from harness.collect.tables import read_token_nll
from harness.collect.values import measured, missing
from harness.stats.paired import perplexity_change

NATIVE = "native"
"""The backend that the others are held against."""
NO_BASELINE = "no BF16 run of this model in this run to hold against"
NOT_SCORED = "the text was not scored; the verdict says why"
NAMES = ("perplexity_change_pct", "perplexity_change_low_pct", "perplexity_change_high_pct")


def change_metrics(folder: Path, record: dict, baseline: dict | None) -> dict[str, dict]:
    """perplexity_change_pct with its 95 % interval; null with the reason where there is nothing to compare."""
    if baseline is None:
        return {name: missing(name, NO_BASELINE) for name in NAMES}
    if baseline["cell_id"] == record["cell_id"]:
        return {name: missing(name, "this is the BF16 run that the others are held against") for name in NAMES}
    if "token_nll" not in record["samples"]:
        return {name: missing(name, NOT_SCORED) for name in NAMES}
    try:
        base_nll, base_window = read_token_nll(folder / baseline["samples"]["token_nll"])
        nll, window = read_token_nll(folder / record["samples"]["token_nll"])
    except (OSError, ValueError, KeyError) as error:
        return {name: missing(name, f"token NLLs cannot be read ({error})") for name in NAMES}
    change = perplexity_change(base_nll, nll, base_window, window_b=window)
    values = (change.change, change.low, change.high)
    return {
        name: missing(name, change.reason, len(nll)) if value is None else measured(name, 100 * value, len(nll))
        for name, value in zip(NAMES, values, strict=True)
    }


def is_bf16(record: dict) -> bool:
    """Whether a record is of BF16 x BF16."""
    return record["precision"]["weights"] == record["precision"]["activations"] == "bf16"


def find_baseline(records: list[dict], model: str, backend: str) -> dict | None:
    """The finished BF16 x BF16 `heldout` record of a model: the native backend's, else that of `backend` itself."""
    found = {
        record["backend"]: record
        for record in reversed(records)
        if record["model"] == model and is_bf16(record) and record["workload"]["kind"] == "heldout" and record["status"] == "ok"
    }
    return found.get(NATIVE) or found.get(backend)
