"""The verdict on a load: which of its counts and costs make its figures doubtful (WARN) or useless (INVALID).

In: a LoadResult and its figures. Out: reasons for `harness.verdict.verdict`. Each names its figure and what to do.
"""

from harness.client.failures import FAILURES, NOTES
from harness.client.types import LoadResult
from harness.collect.load import LoadFigures
from harness.verdict import MAX_SEND_LAG_MS, Reason

MAX_LATE_PCT = 1.0
MAX_LOOP_LAG_MS = 50.0
"""p99 of the client's lateness; above it time stamps are off by more than people measure."""
WARN_LOOP_LAG_MS = 15.0
INVALIDATING_NOTES = {"short_output": ("completions", "chat"), "prompt_tokens_differ": ("completions",)}
"""Note -> APIs: above the allowed share of failures, these make it another load than was asked for. A chat is planned
in another tokenizer's tokens, perhaps, and sent as text, so its count may differ."""


def judge_load(result: LoadResult, figures: LoadFigures) -> list[Reason]:
    """Every reason why the load is not plainly VALID."""
    return [*_failures(result, figures.block), *_notes(result, figures.block), *_client(figures), *_steadiness(figures)]


def _failures(result: LoadResult, block: dict) -> list[Reason]:
    planned, bad = block["num_planned"], block["num_failed"] + block["num_not_sent"]
    if not bad:
        return []
    limit = result.options.max_failed_pct
    kinds = "; ".join(f"{row['count']} {kind} ({row['first']}): {FAILURES[kind]}" for kind, row in block["failures"].items())
    unsent = f"; {block['num_not_sent']} never sent, since those before had all failed" if block["num_not_sent"] else ""
    is_over = 100.0 * bad / planned > limit
    bound = f"more than the {limit:g} % that is allowed" if is_over else f"within the {limit:g} % that is allowed"
    message = f"{bad} of {planned} requests failed, {bound}: {kinds}{unsent}"
    return [Reason("failed_requests", message, invalidates=is_over)]


def _notes(result: LoadResult, block: dict) -> list[Reason]:
    reasons, answered = [], max(block["num_answered"], 1)
    for name, count in block["notes"].items():
        is_over = block["api"] in INVALIDATING_NOTES.get(name, ()) and 100.0 * count / answered > result.options.max_failed_pct
        reasons.append(Reason(name, f"{count} of {answered} answered requests: {NOTES[name]}", invalidates=is_over))
    if block["num_retries"]:
        message = f"{block['num_retries']} resends; a request that was sent again keeps its first scheduled time"
        reasons.append(Reason("retries", message, invalidates=False))
    return reasons


def _client(figures: LoadFigures) -> list[Reason]:
    reasons, block = [], figures.block
    if 100.0 * block["num_late"] > MAX_LATE_PCT * block["num_planned"]:
        late = f"{block['num_late']} of {block['num_planned']} requests"
        message = f"{late} left the client more than {MAX_SEND_LAG_MS:g} ms late"
        reasons.append(Reason("send_lag", f"{message}: lower the rate, or free this machine's processors", invalidates=False))
    lag = figures.metrics["p99_loop_lag_ms"]["value"]
    if lag is not None and lag > WARN_LOOP_LAG_MS:
        is_over = lag > MAX_LOOP_LAG_MS
        message = f"the client's own timers were {lag:.0f} ms late at p99: its time stamps are as late; free this machine"
        reasons.append(Reason("client_lag", message, invalidates=is_over))
    return reasons


def _steadiness(figures: LoadFigures) -> list[Reason]:
    window, reasons = figures.window, []
    if window.reason is not None:
        reasons.append(Reason("no_steady_window", f"{window.reason}; send more requests", invalidates=False))
    if window.growth is not None:
        message = f"{window.growth}: the load is more than the server serves; lower the rate"
        reasons.append(Reason("unsteady", message, invalidates=False))
    return reasons
