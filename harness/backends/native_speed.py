"""Speed of the native backend: run a workload's requests through the engine and keep every time stamp.

In: a loaded backend, a workload. Out: metrics, expert usage of the decode steps, samples (requests, steps, routing).
Warm-up requests come first in an engine of their own and are not counted; the prompts are the workload's.
"""

import time
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from fp4moe.runtime import Engine, Request, RoutingRecorder, Sampling, peak_step_bytes
from harness.collect import experts, tables
from harness.collect.expert_cache import simulate
from harness.collect.latency import RequestTimes, StepTimes, cpu_metrics, latency_metrics, throughput_metrics
from harness.collect.values import measured, missing
from harness.record.write import RunWriter
from harness.scenario.arrival import num_slots
from harness.scenario.schema import WorkloadSpec
from harness.verdict import judge_check, judge_requests, verdict
from harness.workload.requests import PlannedRequest, plan_requests

WARMUP_OUTPUT_TOKENS = 4
DECODE_PHASE = 1


def measure(backend, *, cell: dict, folder: Path, seed: int, progress) -> dict:
    """One repeat of a `requests` cell."""
    spec = WorkloadSpec.model_validate(cell["workload"])
    text = backend.text()
    planned = plan_requests(spec, None if text is None else text[0], backend.model.config.vocab_size, seed)
    activation_peak = _warm_up(backend.model, spec, planned, seed)
    recorder = RoutingRecorder(backend.model.config.num_layers)
    engine = _engine(backend.model, spec, recorder)
    requests, steps = run_requests(engine, planned, spec, seed=seed, progress=progress)
    reasons = [*judge_check(backend.check), *judge_requests(requests, steps)]
    metrics = latency_metrics(requests) | throughput_metrics(requests, steps)
    metrics |= cpu_metrics(steps, device=backend.model.device.type)
    if backend.check and not backend.check["passed"]:
        metrics = {name: missing(name, "the output disagrees with the reference") for name in metrics}
    metrics["kv_cache_bytes"] = measured("kv_cache_bytes", engine.kv_cache_bytes, 1)
    metrics["activation_peak_bytes"] = measured("activation_peak_bytes", activation_peak, 1)
    routing = recorder.arrays()
    return {
        "metrics": metrics,
        "experts": decode_experts(backend.model, routing),
        "samples": _store(
            RunWriter(folder),
            cell["stem"],
            requests,
            steps,
            routing,
            num_experts=backend.model.config.num_experts,
        ),
        "verdict": verdict(reasons),
    }


def _engine(model, spec: WorkloadSpec, recorder: RoutingRecorder | None) -> Engine:
    slots = min(num_slots(spec.arrival), spec.num_requests)
    return Engine(model, max_slots=slots, max_context=spec.prompt_tokens + spec.output_tokens, recorder=recorder)


def _warm_up(model, spec: WorkloadSpec, planned: list[PlannedRequest], seed: int) -> int:
    """Run the first requests with short outputs; gives the peak bytes of activations with every slot in use."""
    count = min(
        spec.num_requests,
        2 * num_slots(spec.arrival) if spec.warmup_requests is None else spec.warmup_requests,
    )
    engine = _engine(model, spec, None)
    output = min(WARMUP_OUTPUT_TOKENS, spec.output_tokens)

    def run_all(requests: list[PlannedRequest]) -> None:
        for request in requests:
            engine.submit(Request(request.request_id, request.prompt_ids, output, _sampling(spec, request, seed)))
        while engine.has_work:
            engine.step()

    run_all(planned[:count])
    one_round = [
        replace(request, request_id=f"peak-{index}")
        for index, request in enumerate(planned[: min(spec.num_requests, num_slots(spec.arrival))])
    ]
    return peak_step_bytes(lambda: run_all(one_round), device=str(model.device))


def _sampling(spec: WorkloadSpec, request: PlannedRequest, seed: int) -> Sampling:
    index = int(request.request_id.rsplit("-", 1)[1])
    return Sampling(temperature=spec.sampling.temperature, top_p=spec.sampling.top_p, seed=seed * 1_000_003 + index)


def run_requests(engine: Engine, planned: list[PlannedRequest], spec: WorkloadSpec, *, seed: int, progress):
    """Send each request when it is due and step the engine until all have ended: (request times, step times)."""
    waiting, in_flight = deque(planned), 0
    limit = spec.arrival.concurrency if spec.arrival.kind == "closed" else len(planned)
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
        for request_id, _ in step.emitted:
            token_times[request_id].append(step.end_ns)
        in_flight -= len(step.finished)
        progress(sum(map(len, token_times.values())), len(planned) * spec.output_tokens, "tokens")
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


def _store(writer: RunWriter, stem: str, requests, steps, routing, *, num_experts: int) -> dict[str, str]:
    hit = experts_hit_by_step(routing, num_experts)
    return {
        "requests": writer.store(f"samples/{stem}-requests.parquet", lambda p: tables.write_requests(p, requests)),
        "steps": writer.store(f"samples/{stem}-steps.parquet", lambda p: tables.write_steps(p, steps, hit)),
        "routing": writer.store(f"samples/{stem}-routing.npz", lambda p: tables.write_arrays(p, routing)),
    }
