"""Speed of the native backend: run a workload's requests through the engine and keep every time stamp.

In: a loaded backend, a workload. Out: metrics, expert usage of the decode steps, samples (requests, steps, routing).
Warm-up requests come first and are not counted; the prompts are the workload's.
"""

import time
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from fp4moe.runtime import Request, RoutingRecorder, Sampling, peak_step_bytes
from harness.backends import native_routing
from harness.backends.native_engines import ReadyEngine
from harness.collect import experts, tables
from harness.collect.expert_cache import simulate
from harness.collect.in_process import in_process_figures
from harness.collect.latency import RequestTimes, StepTimes, cpu_metrics, latency_metrics, throughput_metrics
from harness.collect.outputs import write_outputs
from harness.collect.values import measured, missing
from harness.heap import frozen_heap
from harness.record.write import RunWriter
from harness.scenario.arrival import max_in_flight, num_slots
from harness.scenario.schema import WorkloadSpec
from harness.verdict import judge_check, judge_requests, verdict
from harness.workload.bounds import bounds_of, judge_source
from harness.workload.requests import PlannedRequest, num_warmup, plan_requests, sampling_seed
from harness.workload.tokenizer import codec_of

WARMUP_OUTPUT_TOKENS = 4
DECODE_PHASE = 1


def measure(backend, *, cell: dict, folder: Path, seed: int, progress) -> dict:
    """One repeat of a `requests` cell."""
    spec = WorkloadSpec.model_validate(cell["workload"])
    text = backend.text()
    encode, _ = codec_of(backend.source.path)
    planned = plan_requests(spec, None if text is None else text[0], backend.model.config.vocab_size, seed, encode=encode)
    sizes = sizes_of(spec)
    ready = backend.engines.get(*sizes)
    engine = ready.engine
    native_routing.impose(ready, backend.model.config, spec, seed)
    activation_peak = warmed_up(ready, spec, planned, seed, device=str(backend.model.device))
    recorder = RoutingRecorder(backend.model.config.num_layers)
    engine.record_into(recorder)
    outputs: dict[str, list[int]] = {}
    requests, steps = run_requests(engine, planned, spec, seed=seed, progress=progress, outputs=outputs)
    reasons = [*judge_check(backend.check), *judge_requests(requests, steps), *judge_source(spec)]
    figures = in_process_figures(requests, spec)
    metrics = latency_metrics(requests) | throughput_metrics(requests, steps) | figures.metrics
    metrics |= cpu_metrics(steps, device=backend.model.device.type)
    if backend.check and not backend.check["passed"]:
        metrics = {name: missing(name, "the output disagrees with the reference") for name in metrics}
    metrics["kv_cache_bytes"] = measured("kv_cache_bytes", engine.kv_cache_bytes, 1)
    metrics["activation_peak_bytes"] = measured("activation_peak_bytes", activation_peak, 1)
    routing = recorder.arrays()
    return {
        "metrics": metrics,
        "load": figures.block,
        "experts": decode_experts(backend.model, routing),
        "samples": _store(
            RunWriter(folder),
            cell["stem"],
            requests,
            steps,
            routing,
            outputs=outputs,
            num_experts=backend.model.config.num_experts,
        ),
        "verdict": verdict(reasons),
        "predicted_memory_bytes": backend.predicted_bytes(*sizes),
    }


def sizes_of(spec: WorkloadSpec) -> tuple[int, int]:
    """(slots, context) of an engine with room for the workload."""
    bounds = bounds_of(spec)
    return min(num_slots(spec.arrival), bounds.num_requests), bounds.max_context


def warmed_up(ready: ReadyEngine, spec: WorkloadSpec, planned: list[PlannedRequest], seed: int, *, device: str) -> int:
    """Warm up for a workload; the peak is measured the first time, since a kept engine has it already."""
    if spec.name not in ready.peaks:
        ready.peaks[spec.name] = warm_up(ready.engine, spec, planned, seed, device=device)
    elif device == "cpu":
        warm_up(ready.engine, spec, planned, seed, device=device)
    return ready.peaks[spec.name]


def warm_up(engine, spec: WorkloadSpec, planned: list[PlannedRequest], seed: int, *, device: str = "cpu") -> int:
    """Run the first requests with short outputs; gives the peak bytes of activations with every slot in use."""
    engine.record_into(None)

    def run_all(requests: list[PlannedRequest]) -> None:
        for request in requests:
            output = min(WARMUP_OUTPUT_TOKENS, request.output_tokens)
            engine.submit(Request(request.request_id, request.prompt_ids, output, _sampling(spec, request, seed)))
        while engine.has_work:
            engine.step()

    run_all(planned[: num_warmup(spec)])
    one_round = [
        replace(request, request_id=f"peak-{index}") for index, request in enumerate(planned[: num_slots(spec.arrival)])
    ]
    return peak_step_bytes(lambda: run_all(one_round), device=device)


def _sampling(spec: WorkloadSpec, request: PlannedRequest, seed: int) -> Sampling:
    index = int(request.request_id.rsplit("-", 1)[1])
    return Sampling(temperature=spec.sampling.temperature, top_p=spec.sampling.top_p, seed=sampling_seed(seed, index))


@frozen_heap()
def run_requests(engine, planned: list[PlannedRequest], spec: WorkloadSpec, *, seed: int, progress, outputs=None):
    """Send each request when it is due and step the engine until all have ended: (request times, step times).

    `outputs`, where given, is filled with the token ids of each request.
    """
    outputs = {} if outputs is None else outputs
    waiting, in_flight, num_emitted = deque(planned), 0, 0
    limit = max_in_flight(spec.arrival) or len(planned)
    total = sum(request.output_tokens for request in planned)
    sent: dict[str, tuple[int, int]] = {}
    token_times: dict[str, list[int]] = {request.request_id: [] for request in planned}
    steps: list[StepTimes] = []
    start_ns = time.perf_counter_ns()
    while waiting or engine.has_work:
        while waiting and in_flight < limit and _is_due(waiting[0], start_ns):
            request = waiting.popleft()
            now = time.perf_counter_ns()
            due = now if request.scheduled_s is None else start_ns + int(request.scheduled_s * 1e9)
            sent[request.request_id] = (due, now)
            engine.submit(
                Request(
                    request.request_id,
                    request.prompt_ids,
                    request.output_tokens,
                    _sampling(spec, request, seed),
                )
            )
            in_flight += 1
        if not engine.has_work:
            time.sleep(max(0.0, start_ns / 1e9 + waiting[0].scheduled_s - time.perf_counter_ns() / 1e9))
            continue
        cpu_before_ns = time.process_time_ns()
        step = engine.step()
        cpu_ns = time.process_time_ns() - cpu_before_ns
        steps.append(StepTimes(step.index, step.phase, step.start_ns, step.end_ns, step.num_tokens, step.num_requests, cpu_ns))
        for request_id, token in step.emitted:
            token_times[request_id].append(step.end_ns)
            outputs.setdefault(request_id, []).append(token)
        in_flight -= len(step.finished)
        num_emitted += len(step.emitted)
        progress(num_emitted, total, "tokens")
    times = [
        RequestTimes(
            request.request_id,
            *sent[request.request_id],
            tuple(token_times[request.request_id]),
            len(request.prompt_ids),
            request.output_tokens,
        )
        for request in planned
    ]
    return times, steps


def _is_due(request: PlannedRequest, start_ns: int) -> bool:
    return request.scheduled_s is None or time.perf_counter_ns() >= start_ns + request.scheduled_s * 1e9


def decode_experts(model, routing: dict[str, np.ndarray]) -> dict | None:
    """Usage a layer and cache hit rates over the decode steps; None when there was none."""
    in_decode = routing["phase"] == DECODE_PHASE
    if not in_decode.any():
        return None
    ids, step = routing["expert_ids"][in_decode], routing["step"][in_decode]
    return expert_block(model, ids, step, phase="decode")


def expert_block(model, expert_ids: np.ndarray, step: np.ndarray, *, phase: str, cache_tokens: int | None = None) -> dict:
    """The record's `experts` block for ids [N, L, k]; the cache is simulated on the first `cache_tokens` tokens."""
    config, memory = model.config, model.memory_bytes()
    expert_bytes = sum(memory[f"expert_{part}"] for part in ("codes", "scales", "tensor_scales"))
    one_expert = expert_bytes // (config.num_layers * config.num_experts)
    usage = experts.layer_usage(expert_ids, step, config.num_experts)
    return {
        "num_experts": config.num_experts,
        "top_k": config.top_k,
        "phase": phase,
        "layers": [asdict(layer) for layer in usage],
        "cache": simulate(expert_ids[:cache_tokens], step[:cache_tokens], config.num_experts, one_expert),
    }


def experts_hit_by_step(routing: dict[str, np.ndarray], num_experts: int) -> dict[int, float]:
    """Step index -> distinct experts hit, mean over layers."""
    hit = experts.experts_hit(routing["expert_ids"], routing["step"], num_experts)
    return dict(zip(np.unique(routing["step"]).tolist(), hit.sum(axis=2).mean(axis=1).tolist(), strict=True))


def experts_hit_by_layer(routing: dict[str, np.ndarray], num_experts: int) -> list[float] | None:
    """Distinct experts hit in each layer, mean over decode steps; None when there was none."""
    in_decode = routing["phase"] == DECODE_PHASE
    if not in_decode.any():
        return None
    hit = experts.experts_hit(routing["expert_ids"][in_decode], routing["step"][in_decode], num_experts)
    return hit.sum(axis=2).mean(axis=0).tolist()


def _store(writer: RunWriter, stem: str, requests, steps, routing, *, outputs, num_experts: int) -> dict[str, str]:
    hit = experts_hit_by_step(routing, num_experts)
    return {
        "requests": writer.store(f"samples/{stem}-requests.parquet", lambda p: tables.write_requests(p, requests)),
        "outputs": writer.store(f"samples/{stem}-outputs.parquet", lambda p: write_outputs(p, outputs)),
        "steps": writer.store(f"samples/{stem}-steps.parquet", lambda p: tables.write_steps(p, steps, hit)),
        "routing": writer.store(f"samples/{stem}-routing.npz", lambda p: tables.write_arrays(p, routing)),
    }
