"""Speed of vLLM driven directly: the same requests at the same times as our runtime gets them, and the same metrics.

In: an Engine, a workload. Out: metrics, samples, verdict. Warm-up requests run first and are not counted, by the rule of
the native backend. A step of vLLM may hold prompts and decoding tokens at once; prefill and decode throughput count pure
steps alone.
"""

from dataclasses import replace
from pathlib import Path

from harness.backends.vllm.engine import Engine
from harness.collect import tables
from harness.collect.in_process import in_process_figures
from harness.collect.latency import RequestTimes, StepTimes, latency_metrics, throughput_metrics
from harness.collect.outputs import write_outputs
from harness.collect.values import measured, missing
from harness.record.write import RunWriter
from harness.scenario.arrival import max_in_flight
from harness.scenario.schema import WorkloadSpec
from harness.verdict import judge_requests, verdict
from harness.workload.bounds import judge_source
from harness.workload.requests import PlannedRequest, num_warmup, plan_requests, sampling_seed
from harness.workload.tokenizer import codec_of

WARMUP_OUTPUT_TOKENS = 4


def measure(backend, engine: Engine, *, cell: dict, folder: Path, seed: int, progress) -> dict:
    """One repeat of a `requests` cell."""
    spec = WorkloadSpec.model_validate(cell["workload"])
    text = backend.text()
    encode, _ = codec_of(backend.source.path)
    vocab_size = backend.source.config["vocab_size"]
    planned = plan_requests(spec, None if text is None else text[0], vocab_size, seed, encode=encode)
    _ask(engine, _warm_up(planned, spec), spec, seed, backend=backend, progress=progress)
    answer = _ask(engine, planned, spec, seed, backend=backend, progress=progress)
    requests, steps = request_times(answer, planned), [StepTimes(i, *step) for i, step in enumerate(answer["steps"])]
    figures = in_process_figures(requests, spec)
    metrics = latency_metrics(requests) | throughput_metrics(requests, steps) | figures.metrics
    metrics["activation_peak_bytes"] = missing("activation_peak_bytes", "vLLM does not tell it")
    metrics["process_peak_rss_bytes"] = _rss(answer["peak_rss_bytes"], on_cpu=backend.on_cpu)
    writer, stem = RunWriter(folder), cell["stem"]
    outputs = {row["id"]: row["token_ids"] for row in answer["requests"]}
    samples = {
        "requests": writer.store(f"samples/{stem}-requests.parquet", lambda p: tables.write_requests(p, requests)),
        "steps": writer.store(f"samples/{stem}-steps.parquet", lambda p: tables.write_steps(p, steps, {})),
        "outputs": writer.store(f"samples/{stem}-outputs.parquet", lambda p: write_outputs(p, outputs)),
    }
    reasons = [*judge_requests(requests, steps), *judge_source(spec)]
    return {"metrics": metrics, "load": figures.block, "experts": None, "samples": samples, "verdict": verdict(reasons)}


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
    return [
        replace(
            request,
            request_id=f"warm-up-{request.request_id}",
            output_tokens=min(WARMUP_OUTPUT_TOKENS, request.output_tokens),
            scheduled_s=0.0,
        )
        for request in planned[: num_warmup(spec)]
    ]


def _ask(engine: Engine, planned: list[PlannedRequest], spec: WorkloadSpec, seed: int, *, backend, progress) -> dict:
    rows = [
        {
            "id": request.request_id,
            "prompt_ids": [int(token) for token in request.prompt_ids],
            "max_tokens": request.output_tokens,
            "scheduled_s": request.scheduled_s,
            "seed": sampling_seed(seed, index) % 2**31,
        }
        for index, request in enumerate(planned)
    ]
    return engine.ask(
        "run",
        timeout_s=backend.sizes.cell_timeout_s,
        progress=progress,
        requests=rows,
        sampling={"temperature": spec.sampling.temperature, "top_p": spec.sampling.top_p},
        concurrency=max_in_flight(spec.arrival) or max(1, len(rows)),
    )


def _rss(peak_bytes: int, *, on_cpu: bool) -> dict:
    if on_cpu:
        return measured("process_peak_rss_bytes", peak_bytes, 1)
    reason = "on a GPU the device's memory is what counts; host memory is not reported"
    return missing("process_peak_rss_bytes", reason)
