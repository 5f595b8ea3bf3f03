"""How large a workload is before it is planned: requests, longest prompt and answer, tokens in all.

What the plan, the KV cache and the progress bar need. A trace is read for it (once; see `read_trace`).
"""

from dataclasses import dataclass

from harness.scenario.lengths import bounds as length_bounds
from harness.scenario.schema import WorkloadSpec
from harness.scenario.source import TRACES
from harness.verdict import Reason
from harness.workload.traces import Trace, read_trace


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a workload can ask for."""

    num_requests: int
    max_prompt_tokens: int
    max_output_tokens: int
    total_output_tokens: int
    """Of all requests: exact for numbers and traces, requests x the most otherwise."""

    @property
    def max_context(self) -> int:
        """The longest prompt and the longest answer together."""
        return self.max_prompt_tokens + self.max_output_tokens


def trace_of(spec: WorkloadSpec) -> Trace | None:
    """The workload's trace, None where it has none. Raises ScenarioError for an unusable file."""
    return read_trace(spec.source, spec.num_requests) if spec.source.kind in TRACES else None


def num_requests_of(spec: WorkloadSpec) -> int:
    """Requests that are really sent: a trace may hold fewer than were asked for."""
    trace = trace_of(spec)
    return spec.num_requests if trace is None else len(trace.rows)


def bounds_of(spec: WorkloadSpec) -> Bounds:
    """The workload's bounds. Raises ScenarioError for an unusable trace."""
    trace, count = trace_of(spec), num_requests_of(spec)
    prompts = _most(spec, "prompt_tokens", trace)
    outputs = _most(spec, "output_tokens", trace)
    prefix = 0 if spec.shared_prefix is None else spec.shared_prefix.tokens
    is_of_trace = trace is not None and spec.output_tokens is None
    total = sum(row.output_tokens for row in trace.rows) if is_of_trace else count * outputs
    return Bounds(count, prompts + prefix, outputs, total)


def _most(spec: WorkloadSpec, key: str, trace: Trace | None) -> int:
    own = getattr(spec, key)
    if own is not None:
        return length_bounds(own)[1]
    if trace is not None:
        return max(getattr(row, key) for row in trace.rows)
    return getattr(spec.source, f"max_{key}")


def source_block(spec: WorkloadSpec) -> dict | None:
    """What a record says of a trace: rows used and what was wrong with others; None without a trace."""
    trace = trace_of(spec)
    if trace is None:
        return None
    return {
        "num_rows": len(trace.rows),
        "num_asked": spec.num_requests,
        "num_bad_rows": len(trace.problems),
        "num_unsorted": trace.num_unsorted,
        "num_cut": trace.num_cut,
        "problems": list(trace.problems),
    }


def judge_source(spec: WorkloadSpec) -> list[Reason]:
    """Reasons for the verdict: rows of a trace that were left out, moved or cut."""
    trace = trace_of(spec)
    if trace is None:
        return []
    reasons = []
    if trace.problems:
        message = f"{len(trace.problems)} rows of the trace were left out: {trace.problems[0]}; repair the file"
        reasons.append(Reason("trace_rows_left_out", message, invalidates=False))
    if trace.num_unsorted:
        message = f"{trace.num_unsorted} rows of the trace stood after a later one and were sorted by time"
        reasons.append(Reason("trace_unsorted", message, invalidates=False))
    return reasons
