"""Our runtime as `harness.serve` drives it: jobs in, steps out, and log-probabilities of given tokens.

In: a NativeBackend that has loaded. Out: `NativeEngine`, which fulfils harness.serve.engine_thread.ServedEngine through the
engine's public interface alone (submit, cancel, step). Tokens are scored by the backend's own `score`, so that a perplexity
over HTTP is the one of a quality cell, under the kernels that serve. One thread calls it.
"""

import torch

from fp4moe.errors import EngineError
from fp4moe.runtime import Request, Sampling, make_engine
from harness.serve.jobs import GenerationSpec, Scores, TokenScore


class NativeEngine:
    """One engine and its loaded backend."""

    def __init__(self, backend, *, max_slots: int, max_context: int) -> None:
        self._backend, self._model = backend, backend.model
        self._engine = make_engine(self._model, max_slots=max_slots, max_context=max_context)

    @property
    def has_work(self) -> bool:
        return self._engine.has_work

    @property
    def kv_cache_bytes(self) -> int:
        return self._engine.kv_cache_bytes

    @property
    def weight_bytes(self) -> int:
        return sum(self._model.memory_bytes().values())

    def submit(self, spec: GenerationSpec) -> None:
        """Queue a job; EngineError when it can never be served."""
        sampling = Sampling(temperature=spec.temperature, top_p=spec.top_p, seed=spec.seed)
        request = Request(spec.job_id, spec.prompt_ids, spec.max_new_tokens, sampling, ignore_eos=spec.ignore_eos)
        self._engine.submit(request)

    def cancel(self, job_id: str) -> None:
        """Drop a job that has not ended."""
        self._engine.cancel(job_id)

    def step(self):
        """One prefill or decode, as StepResult."""
        return self._engine.step()

    def score(self, ids: list[int], num_top: int) -> Scores:
        """Log-probability of each token after the first given those before it, and the `num_top` likeliest there."""
        if len(ids) < 2:
            return [None] * len(ids)
        tokens = torch.tensor([ids], device=self._model.device)
        logprobs_TV = self._backend.score(tokens[:, :-1])[0].log_softmax(-1)
        given = logprobs_TV.gather(-1, tokens[0, 1:, None]).squeeze(-1).tolist()
        top = logprobs_TV.topk(max(1, num_top), dim=-1)
        pairs = zip(given, top.indices.tolist(), top.values.tolist(), strict=True)
        return [None, *(TokenScore(g, tuple(zip(i, v, strict=True))[:num_top]) for g, i, v in pairs)]

    def is_refusal(self, error: Exception) -> bool:
        """Whether the engine refused a job, rather than failed."""
        return isinstance(error, EngineError)
