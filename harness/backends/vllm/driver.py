"""Runs inside vLLM's own Python: load an engine, score windows, serve requests, each as one JSON line in and one out.

Imports vLLM, torch (which vLLM brings) and the standard library, nothing of the harness. Commands and events are those of
harness.worker.protocol; times are time.perf_counter_ns, as in the in-process backend. Logs go to standard error.
"""

import base64
import json
import logging
import os
import resource
import sys
import time
import traceback

WINDOW_BATCH = 16
PROGRESS_INTERVAL_S = 0.2


class Driver:
    """One engine at a time."""

    def __init__(self, answers) -> None:
        self._answers = answers
        self._llm = None
        self._told_s = 0.0

    def send(self, message: dict) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()

    def progress(self, done: int, total: int, what: str) -> None:
        if time.monotonic() - self._told_s >= PROGRESS_INTERVAL_S:
            self._told_s = time.monotonic()
            self.send({"event": "progress", "done": done, "total": total, "what": what})

    def load(self, *, model: str, engine_args: dict) -> dict:
        """Start the engine and say what it is."""
        from vllm import LLM

        started = time.perf_counter()
        self._llm = LLM(model, **engine_args)
        logging.getLogger("vllm").setLevel(logging.INFO)  # what was decided is logged by now; steps are not to be slowed
        return _described(self._llm) | {"load_s": time.perf_counter() - started}

    def score(self, *, windows: list[list[int]]) -> dict:
        """For each window: NLL and likeliest token at every place after the first; routed experts where they come."""
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, prompt_logprobs=1, temperature=0.0, detokenize=False)
        nll, top1, routed = [], [], []
        for start in range(0, len(windows), WINDOW_BATCH):
            batch = [{"prompt_token_ids": ids} for ids in windows[start : start + WINDOW_BATCH]]
            for output in self._llm.generate(batch, params, use_tqdm=False):
                places = list(zip(output.prompt_token_ids, output.prompt_logprobs, strict=True))[1:]
                nll.append([-at[token].logprob for token, at in places])
                top1.append([next(token for token, entry in at.items() if entry.rank == 1) for _, at in places])
                routed.append(_packed(output.outputs[0], len(output.prompt_token_ids) - 1))
            self.progress(start + len(batch), len(windows), "windows")
        return {"nll_nats": nll, "top1": top1, "routed": None if None in routed else routed}

    def run(self, *, requests: list[dict], sampling: dict, concurrency: int) -> dict:
        """Send each request when it is due, at most `concurrency` at a time, and step until all have ended."""
        load = _Load(self._llm.llm_engine, requests, sampling, concurrency)
        while load.has_work:
            load.turn()
            self.progress(load.num_tokens, load.total_tokens, "tokens")
        return load.result() | {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


class _Load:
    """One workload through the engine's own add_request and step."""

    def __init__(self, engine, requests: list[dict], sampling: dict, concurrency: int) -> None:
        self._engine, self._waiting, self._sampling = engine, list(reversed(requests)), sampling
        self._concurrency = concurrency
        self._in_flight: dict[str, dict] = {}
        self._rows = {
            request["id"]: {"id": request["id"], "scheduled_ns": 0, "submitted_ns": 0, "times_ns": [], "token_ids": []}
            for request in requests
        }
        self._steps: list[tuple] = []
        self.num_tokens = 0
        self.total_tokens = sum(request["max_tokens"] for request in requests)
        self._start_ns = time.perf_counter_ns()

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._in_flight)

    def turn(self) -> None:
        """Submit what is due, then one step; sleep where nothing is here yet."""
        while self._waiting and len(self._in_flight) < self._concurrency and self._is_due(self._waiting[-1]):
            self._submit(self._waiting.pop())
        if self._in_flight:
            self._step()
        else:
            due_ns = self._start_ns + self._waiting[-1]["scheduled_s"] * 1e9
            time.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9))

    def result(self) -> dict:
        return {"requests": list(self._rows.values()), "steps": self._steps}

    def _is_due(self, request: dict) -> bool:
        return request["scheduled_s"] is None or time.perf_counter_ns() >= self._start_ns + request["scheduled_s"] * 1e9

    def _submit(self, request: dict) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            max_tokens=request["max_tokens"],
            min_tokens=request["max_tokens"],
            ignore_eos=True,
            seed=request["seed"],
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            **self._sampling,
        )
        now, scheduled = time.perf_counter_ns(), request["scheduled_s"]
        row = self._rows[request["id"]]
        row["submitted_ns"] = now
        row["scheduled_ns"] = now if scheduled is None else self._start_ns + int(scheduled * 1e9)
        self._engine.add_request(request["id"], {"prompt_token_ids": request["prompt_ids"]}, params)
        self._in_flight[request["id"]] = request

    def _step(self) -> None:
        """Phase: prefill where no request in flight had a token yet, decode where all had, else mixed."""
        have = [bool(self._rows[name]["times_ns"]) for name in self._in_flight]
        phase = "decode" if all(have) else "mixed" if any(have) else "prefill"
        start_ns = time.perf_counter_ns()
        outputs = self._engine.step()
        end_ns = time.perf_counter_ns()
        tokens, prompts, served = 0, 0, 0
        for output in outputs:
            row, new = self._rows[output.request_id], list(output.outputs[0].token_ids)
            if new and not row["times_ns"]:
                prompts += len(self._in_flight[output.request_id]["prompt_ids"])
            row["times_ns"] += [end_ns] * len(new)
            row["token_ids"] += new
            tokens, served = tokens + len(new), served + bool(new)
            if output.finished:
                del self._in_flight[output.request_id]
        self.num_tokens += tokens
        self._steps.append((phase, start_ns, end_ns, prompts if phase == "prefill" else tokens, served))


def _described(llm) -> dict:
    """What the engine says of itself; a thing that this version does not tell is None with its reason."""
    import torch
    import vllm

    config = llm.llm_engine.vllm_config
    try:
        parameters = {name: size for part in llm.apply_model(_sizes) for name, size in part.items()}
        reason = None
    except Exception as error:  # another executor, another version: memory is then not measured, and says so
        parameters, reason = None, _first_line(error)
    on_gpu = torch.cuda.is_available()
    try:
        layers = llm.apply_model(_layers)[0]
    except Exception as error:
        layers = {"reason": _first_line(error)}
    return {
        "layers": layers,
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "gpu_allocated_bytes": torch.cuda.memory_allocated() if on_gpu else None,
        "parameters": parameters,
        "parameters_reason": reason,
        "num_kv_blocks": config.cache_config.num_gpu_blocks,
        "kv_block_tokens": config.cache_config.block_size,
        "kv_dtype": str(config.cache_config.cache_dtype),
        "max_model_len": config.model_config.max_model_len,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "enforce_eager": bool(config.model_config.enforce_eager),
        "quantization": config.model_config.quantization,
        "threads": torch.get_num_threads(),
    }


def _sizes(model) -> dict[str, int]:
    return {name: parameter.nbytes for name, parameter in model.named_parameters()}


def _layers(model) -> dict[str, list[str]]:
    """Class names that say what runs: attention backends, and the methods of the MoE layers."""
    attention, moe = set(), set()
    for module in model.modules():
        backend = getattr(module, "attn_backend", None)
        if backend is not None and hasattr(backend, "get_name"):
            attention.add(backend.get_name())
        if "MoE" in type(module).__name__ and getattr(module, "quant_method", None) is not None:
            moe.add(type(module.quant_method).__name__)
    return {"attention": sorted(attention), "moe_method": sorted(moe)}


def _packed(completion, num_tokens: int) -> dict | None:
    """Routed experts of the first `num_tokens` tokens as base64 of uint8 [tokens, layers, k]; None where some are missing."""
    routed = getattr(completion, "routed_experts", None)
    if routed is None or len(routed) < num_tokens or bool((routed[:num_tokens] < 0).any()):
        return None
    ids = routed[:num_tokens].astype("uint8")
    return {"shape": list(ids.shape), "data": base64.b64encode(ids.tobytes()).decode()}


def _first_line(error: Exception) -> str:
    """The line that says what is wrong: pydantic puts it second, behind a count."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("Value error, ")), lines[0] if lines else "no message")
    told = told.removeprefix("Value error, ").split(" [type=")[0]
    return f"{type(error).__name__}: {told}"[:400]


def main() -> None:
    """Serve commands until `exit` or the end of the input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    driver = Driver(answers)
    for line in sys.stdin:
        message = json.loads(line)
        command = message.pop("command")
        if command == "exit":
            break
        try:
            driver.send({"event": "result", "result": getattr(driver, command)(**message)})
        except Exception as error:  # the boundary of the process: whatever it was, the caller must hear of it
            traceback.print_exc()
            kind = "out_of_memory" if "out of memory" in str(error).lower() else type(error).__name__
            driver.send({"event": "error", "kind": kind, "message": _first_line(error)})


if __name__ == "__main__":
    main()
