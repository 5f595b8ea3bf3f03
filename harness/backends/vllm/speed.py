"""Speed of vLLM driven directly: the same requests at the same times as our runtime gets them, and the same metrics.

In: an Engine, a workload. Out: metrics, samples, verdict. Warm-up requests run first and are not counted, by the rule of
the native backend. A step of vLLM may hold prompts and decoding tokens at once; prefill and decode throughput count pure
steps alone.
"""

from dataclasses import replace
from pathlib import Path

from harness.backends.vllm.engine import Engine
from harness.collect import tables
from harness.collect.latency import RequestTimes, StepTimes, latency_metrics, throughput_metrics
from harness.collect.outputs import write_outputs
from harness.collect.values import measured, missing
from harness.record.write import RunWriter
from harness.scenario.arrival import num_slots
from harness.scenario.schema import WorkloadSpec
from harness.verdict import judge_requests, verdict
from harness.workload.requests import PlannedRequest, plan_requests

WARMUP_OUTPUT_TOKENS = 4


def measure(backend, engine: Engine, *, cell: dict, folder: Path, seed: int, progress) -> dict:
    """One repeat of a `requests` cell."""
    spec = WorkloadSpec.model_validate(cell["workload"])
    text = backend.text()
    planned = plan_requests(spec, None if text is None else text[0], backend.source.config["vocab_size"], seed)
    _ask(engine, _warm_up(planned, spec), spec, seed, backend=backend, progress=progress)
    answer = _ask(engine, planned, spec, seed, backend=backend, progress=progress)
    requests, steps = request_times(answer, planned), [StepTimes(i, *step) for i, step in enumerate(answer["steps"])]
    metrics = latency_metrics(requests) | throughput_metrics(requests, steps)
    metrics["activation_peak_bytes"] = missing("activation_peak_bytes", "vLLM does not tell it")
    metrics["process_peak_rss_bytes"] = _rss(answer["peak_rss_bytes"], on_cpu=backend.on_cpu)
    writer, stem = RunWriter(folder), cell["stem"]
    outputs = {row["id"]: row["token_ids"] for row in answer["requests"]}
    samples = {
        "requests": writer.store(f"samples/{stem}-requests.parquet", lambda p: tables.write_requests(p, requests)),
        "steps": writer.store(f"samples/{stem}-steps.parquet", lambda p: tables.write_steps(p, steps, {})),
        "outputs": writer.store(f"samples/{stem}-outputs.parquet", lambda p: write_outputs(p, outputs)),
    }
    return {"metrics": metrics, "experts": None, "samples": samples, "verdict": verdict(judge_requests(requests, steps))}


def request_times(answer: dict, planned: list[PlannedRequest]) -> list[RequestTimes]:
    """The driver's rows as our own."""
    rows = {row["id"]: row for row in answer["requests"]}
    return [
        RequestTimes(
            request.request_id,
            rows[request.request_id]["scheduled_ns"],
            rows[request.request_id]["submitted_ns"],
            tuple(rows[request.request_id]["times_ns"]),
            len(request.prompt_ids),
            request.output_tokens,
        )
        for request in planned
    ]


def _warm_up(planned: list[PlannedRequest], spec: WorkloadSpec) -> list[PlannedRequest]:
    """The first requests with short outputs, all at once, under names of their own."""
    default = min(len(planned), 2 * num_slots(spec.arrival))
    count = default if spec.warmup_requests is None else spec.warmup_requests
    return [
        replace(
            request,
            request_id=f"warm-up-{request.request_id}",
            output_tokens=min(WARMUP_OUTPUT_TOKENS, request.output_tokens),
            scheduled_s=0.0,
        )
        for request in planned[:count]
    ]


def _ask(engine: Engine, planned: list[PlannedRequest], spec: WorkloadSpec, seed: int, *, backend, progress) -> dict:
    rows = [
        {
            "id": request.request_id,
            "prompt_ids": [int(token) for token in request.prompt_ids],
            "max_tokens": request.output_tokens,
            "scheduled_s": request.scheduled_s,
            "seed": (seed * 1_000_003 + index) % 2**31,
        }
        for index, request in enumerate(planned)
    ]
    return engine.ask(
        "run",
        timeout_s=backend.sizes.timeout_s,
        progress=progress,
        requests=rows,
        sampling={"temperature": spec.sampling.temperature, "top_p": spec.sampling.top_p},
        concurrency=num_slots(spec.arrival) if spec.arrival.kind == "closed" else len(rows) or 1,
    )


def _rss(peak_bytes: int, *, on_cpu: bool) -> dict:
    if on_cpu:
        return measured("process_peak_rss_bytes", peak_bytes, 1)
    reason = "on a GPU the device's memory is what counts; host memory is not reported"
    return missing("process_peak_rss_bytes", reason)
