"""A served backend: one server for a (model, precision), its workloads sent by the load client, its quality asked over
HTTP.

Answers a worker's commands like the in-process backends. A server of somebody else that cannot be asked is no failure of
the run: its requests fail one by one, are counted, and make the record INVALID with the name of what is wrong.
"""

import tempfile
from pathlib import Path

import torch
from pydantic import TypeAdapter

from fp4moe.errors import CheckpointError, FormatError
from harness.backends.native_checks import read_text
from harness.backends.served import describe, launch, quality
from harness.backends.served.http import HttpProblem
from harness.backends.served.identify import Identity, identify, tokenizer_problem
from harness.backends.vllm.engine import Sizes
from harness.backends.vllm.quality import divergence, heldout_windows, quality_metrics
from harness.client import Endpoint, run_load
from harness.client.from_spec import client_options
from harness.collect import tables
from harness.collect.load import load_figures
from harness.collect.load_samples import store_load
from harness.collect.load_verdict import judge_load
from harness.collect.slo import slo_of
from harness.collect.values import missing
from harness.models import ModelSource
from harness.precisions import Precision
from harness.record.write import RunWriter
from harness.scenario.backends import BackendSpec
from harness.scenario.schema import QualitySpec, WorkloadSpec
from harness.verdict import Reason, verdict
from harness.workload.bounds import judge_source, source_block
from harness.workload.requests import plan_requests, warmup_requests
from harness.workload.sweep import is_sweep, measure_sweep
from harness.workload.tokenizer import codec_of

PROBE_TEXT = "\u00c9lise had travelled 1,204 miles; nobody mentioned it."
"""Words, numbers, marks and a letter beyond ASCII: two tokenizers hardly ever cut it into the same number of tokens."""


class ServedBackend:
    """Holds one server between commands."""

    def __init__(self) -> None:
        self.source: ModelSource | None = None
        self.spec = None
        self.launched: launch.Launched | None = None
        self.identity: Identity | None = None
        self._problems: list[Reason] = []
        self._text: tuple | None = None

    def is_input_error(self, error: Exception) -> bool:
        """Whether the fault lies in what the user gave."""
        return isinstance(error, CheckpointError | FormatError)

    def load(self, *, backend, source, precision, torch_device, sizes, progress, implementation=None, **_) -> dict:
        """Start or find the server, ask what it is, hold its tokenizer against ours."""
        self.spec, self.source = TypeAdapter(BackendSpec).validate_python(backend), ModelSource(**source)
        sizes = Sizes.of(sizes, self.source.max_positions)
        torch.set_num_threads(sizes.cpu_threads)  # of this process, which exports weights for vLLM and hashes them
        question = launch.Question(self.source, Precision(**precision), torch_device, sizes, implementation)
        self.launched = launch.launch(self.spec, question, lambda: progress(0, 1, "starting the server"))
        try:
            self.identity = identify(self.launched.server, self.launched.model)
        except HttpProblem as problem:
            self._problems = [Reason(problem.kind, str(problem), invalidates=True)]
        else:
            self._problems = self._tokenizer_reasons()
        return describe.loaded(self.spec, self.launched, self.identity)

    def measure(self, *, cell, folder, seed, progress) -> dict:
        """One repeat of one cell."""
        if is_sweep(cell):
            return measure_sweep(cell, lambda one: self.measure(cell=one, folder=folder, seed=seed, progress=progress))
        measured = self._score if cell["kind"] == "heldout" else self._send
        result = measured(cell, Path(folder), seed, progress)
        result["metrics"] |= describe.memory_metrics(self.spec, self.launched)
        return result

    def close(self) -> None:
        """End the server where we started it."""
        if self.launched is not None and self.launched.child is not None:
            self.launched.child.close()
        self.launched = None

    def text(self):
        """(token ids, bytes a token) of the held-out text; None for random weights."""
        if self._text is None:
            self._text = read_text(self.source)
        return self._text

    def _send(self, cell: dict, folder: Path, seed: int, progress) -> dict:
        spec = WorkloadSpec.model_validate(cell["workload"])
        text, (encode, decode) = self.text(), codec_of(self.source.path)
        ids, vocab_size = None if text is None else text[0], self.source.config["vocab_size"]
        codec = {"encode": encode, "decode": decode}
        result = run_load(
            self._endpoint(),
            plan_requests(spec, ids, vocab_size, seed, **codec),
            client_options(spec, extra_body=self._extra_body(spec), keep_text=True),
            folder=Path(tempfile.mkdtemp(prefix="load-", dir=_scratch(folder))),
            warmup=warmup_requests(spec, ids, vocab_size, seed, **codec),
            progress=progress,
        )
        figures = load_figures(result, slo=slo_of(spec))
        return {
            "metrics": figures.metrics,
            "load": figures.block | {"source": source_block(spec)},
            "samples": store_load(RunWriter(folder), cell["stem"], result),
            "verdict": verdict([*self._problems, *judge_load(result, figures), *judge_source(spec)]),
            "experts": None,
        }

    def _score(self, cell: dict, folder: Path, seed: int, progress) -> dict:
        windows = heldout_windows(self, QualitySpec.model_validate(cell["workload"]))
        try:
            nll, top1 = quality.score(self.launched.server, self._model, windows, progress)
        except HttpProblem as problem:
            reason = Reason(problem.kind, f"quality is not measured: {problem}", invalidates=True)
            names = ("mean_nll_nats", "perplexity", "bits_per_byte", "num_scored_tokens", "mean_kl_nats", "top1_agreement_pct")
            metrics = {name: missing(name, str(problem)) for name in names}
            return {"metrics": metrics, "experts": None, "samples": {}, "verdict": verdict([*self._problems, reason])}
        metrics = quality_metrics(nll, windows) | divergence(top1, folder / "scratch" / cell["model"])
        path = f"samples/{cell['stem']}-token-nll.parquet"
        samples = {"token_nll": RunWriter(folder).store(path, lambda p: tables.write_token_nll(p, nll))}
        return {"metrics": metrics, "experts": None, "samples": samples, "verdict": verdict(self._problems)}

    @property
    def _model(self) -> str:
        return self.identity.model if self.identity else self.launched.model or self.source.name

    def _endpoint(self) -> Endpoint:
        server = self.launched.server
        return Endpoint(server.url, self._model, getattr(self.spec, "api", "completions"), tuple(server.headers.items()))

    def _extra_body(self, spec: WorkloadSpec) -> dict:
        """Beside the client's own fields: sampling, and what makes lengths exact where the server knows it."""
        sampling = {"temperature": spec.sampling.temperature, "top_p": spec.sampling.top_p}
        own = self.spec.extra_body if self.spec.kind == "openai" else {"ignore_eos": True, "return_token_ids": True}
        return sampling | own

    def _tokenizer_reasons(self) -> list[Reason]:
        """A server of ours has the checkpoint's own tokenizer; a chat is sent as text and needs none."""
        encode, _ = codec_of(self.source.path)
        if encode is None or self.spec.kind != "openai" or self.spec.api == "chat":
            return []
        try:
            problem = tokenizer_problem(self.launched.server, self._model, PROBE_TEXT, encode(PROBE_TEXT))
        except HttpProblem as error:
            return [Reason("tokenizer_unchecked", f"the server did not answer a short text: {error}", invalidates=False)]
        return [Reason("tokenizer_mismatch", problem, invalidates=True)] if problem else []


def _scratch(folder: Path) -> Path:
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch
