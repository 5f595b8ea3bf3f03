"""The verdict on a record: VALID, WARN or INVALID, each reason with its figure and what to do.

INVALID: the numbers must not be used (the arithmetic was wrong, requests got fewer tokens than asked).
WARN: the numbers stand, with a caveat (warm-up not over, requests sent late).
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from statistics import median

from harness.collect.latency import RequestTimes, StepTimes

MIN_STEPS_FOR_DRIFT = 24
MAX_DRIFT = 1.25
"""First third of the decode steps over the last third, medians; above this the warm-up was not over."""
MAX_TREND, TREND_P = 0.10, 0.001
"""Change of the fitted line over the decode steps, and the chance of its rank test, from which on a drift is named."""
MAX_SEND_LAG_MS = 20.0
ONLY_WARN = (
    "warm_up", "slowing", "send_lag", "retries", "no_steady_window", "unsteady", "sweep_open", "trace_rows_left_out",
    "trace_unsorted", "tokenizer_unchecked", "no_nsys",
)  # fmt: skip
"""Codes of reasons that never invalidate."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a record is not plainly VALID."""

    code: str
    message: str
    invalidates: bool


def verdict(reasons: list[Reason]) -> dict:
    """The verdict block of a record."""
    state = "VALID"
    if reasons:
        state = "INVALID" if any(reason.invalidates for reason in reasons) else "WARN"
    return {"state": state, "reasons": [{k: asdict(r)[k] for k in ("code", "message")} for r in reasons]}


def add_reasons(block: dict, reasons: list[Reason]) -> dict:
    """A verdict block with more reasons; the state can only become worse."""
    more = verdict(reasons)
    states = ("VALID", "WARN", "INVALID")
    return {
        "state": max(block["state"], more["state"], key=states.index),
        "reasons": [*block["reasons"], *more["reasons"]],
    }


def without(block: dict, codes: Collection[str]) -> dict:
    """A verdict block without the reasons of these codes, in the state that the others stand for.

    A record does not tell which of its reasons made it INVALID: it stays so unless all that are left only ever warn.
    """
    left = [reason for reason in block["reasons"] if reason["code"] not in codes]
    if not left:
        return {"state": "VALID" if block["reasons"] else block["state"], "reasons": []}
    warns = block["state"] != "INVALID" or (len(left) < len(block["reasons"]) and all(r["code"] in ONLY_WARN for r in left))
    return {"state": "WARN" if warns else "INVALID", "reasons": left}


def judge_check(check: dict | None) -> list[Reason]:
    """A kernel that disagrees with its reference has no speed."""
    if check is None or check["passed"]:
        return []
    figure = f"relative error {check['relative_error']:.3g} against {check['against']}, bound {check['bound']:.3g}"
    return [Reason("wrong_output", f"{figure}: its speed is not reported; fix the implementation", invalidates=True)]


def judge_requests(requests: list[RequestTimes], steps: list[StepTimes]) -> list[Reason]:
    """Lengths, lateness and drift of one repeat."""
    return [*_short_outputs(requests), *_late_sends(requests), *_drift(steps)]


def _short_outputs(requests: list[RequestTimes]) -> list[Reason]:
    short = [request for request in requests if request.output_tokens < request.asked_tokens]
    if not short:
        return []
    message = f"{len(short)} of {len(requests)} requests got fewer tokens than asked; throughput would be flattered"
    return [Reason("short_output", message, invalidates=True)]


def _late_sends(requests: list[RequestTimes]) -> list[Reason]:
    lags_ms = [(request.submitted_ns - request.scheduled_ns) / 1e6 for request in requests]
    late = [lag for lag in lags_ms if lag > MAX_SEND_LAG_MS]
    if not late:
        return []
    most = f"(most {max(late):.0f} ms)"
    message = f"{len(late)} of {len(lags_ms)} requests were sent more than {MAX_SEND_LAG_MS:g} ms late {most}"
    return [Reason("send_lag", f"{message}: latency includes the wait; lower the rate", invalidates=False)]


def _drift(steps: list[StepTimes]) -> list[Reason]:
    """Compares steps of the same number of requests, so that a filling batch does not look like warm-up."""
    sizes = [step.num_requests for step in steps if step.phase == "decode"]
    if not sizes:
        return []
    common = max(set(sizes), key=sizes.count)
    seconds = [s.seconds for s in steps if s.phase == "decode" and s.num_requests == common]
    third = len(seconds) // 3
    if len(seconds) < MIN_STEPS_FOR_DRIFT:
        return []
    ratio = median(seconds[:third]) / median(seconds[-third:])
    if ratio > MAX_DRIFT:
        message = f"the first third of the decode steps took {ratio:.2f} times as long as the last; raise warmup_requests"
        return [Reason("warm_up", message, invalidates=False)]
    return _trend(seconds)


def _trend(seconds: list[float]) -> list[Reason]:
    """A slow drift that thirds do not show: steps that become faster are warm-up, ones that become slower are not."""
    from harness.stats.trend import trend

    found = trend(seconds)
    if found is None or found.p > TREND_P or abs(found.change) < MAX_TREND:
        return []
    text = f"decode steps changed by {100 * found.change:+.0f} % from first to last (n = {found.n}, p = {found.p:.1g})"
    if found.change < 0:
        return [Reason("warm_up", f"{text}: the warm-up was not over; raise warmup_requests", invalidates=False)]
    advice = "contexts that grow do that, and so does a device that slows down: look at its clocks"
    return [Reason("slowing", f"{text}: {advice}", invalidates=False)]
