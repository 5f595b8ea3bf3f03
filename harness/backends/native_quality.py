"""Quality of the native backend on the held-out text: perplexity, and divergence from the BF16 run.

In: a loaded backend, a quality spec. Out: metrics, expert usage, token NLLs. The BF16 run leaves its log-probabilities
(first `kl_tokens` tokens) and its most likely token everywhere in the run's scratch folder; the others read them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fp4moe.runtime import RoutingRecorder
from harness.backends.native_speed import expert_block
from harness.collect import tables
from harness.collect.values import measured, missing
from harness.quality import NO_BASELINE
from harness.record.write import RunWriter, storage_error
from harness.scenario.schema import QualitySpec
from harness.stats.bits import bits_per_byte, perplexity
from harness.verdict import judge_check, verdict
from harness.workload.heldout import HeldoutWindows, make_windows

CACHE_TOKENS = 2048
"""Tokens of the text on which expert caches are simulated, each token a step, as a batch-1 decode would see them."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far the distribution is from BF16's."""

    mean_kl_nats: float
    num_kl_tokens: int
    top1_agreement: float
    num_compared: int


def measure(backend, *, cell: dict, folder: Path, progress) -> dict:
    """The one repeat of a `heldout` cell."""
    spec = QualitySpec.model_validate(cell["workload"])
    ids, num_bytes = backend.text()
    windows = make_windows(
        ids,
        num_bytes,
        window=spec.window_tokens,
        max_tokens=spec.max_tokens,
        bos_id=backend.model.config.bos_token_id,
    )
    recorder = RoutingRecorder(backend.model.config.num_layers)
    scratch = Path(folder) / "scratch" / cell["model"]
    scratch.mkdir(parents=True, exist_ok=True)
    scores = _score(backend, windows, spec, recorder, scratch, is_baseline=cell["is_baseline"], progress=progress)
    nll, divergence = scores
    total = float(nll.sum(dtype=np.float64))
    count = windows.num_scored
    metrics = {
        "mean_nll_nats": measured("mean_nll_nats", total / count, count),
        "perplexity": measured("perplexity", perplexity(total, count), count),
        "bits_per_byte": measured("bits_per_byte", bits_per_byte(total, windows.num_bytes), count),
        "num_scored_tokens": measured("num_scored_tokens", count, count),
    }
    routing = recorder.arrays()
    writer = RunWriter(folder)
    stem = cell["stem"]
    token_step = np.arange(len(routing["step"]), dtype=np.int32)
    return {
        "metrics": metrics | _divergence_metrics(divergence, is_baseline=cell["is_baseline"]),
        "experts": expert_block(backend.model, routing["expert_ids"], token_step, phase="score", cache_tokens=CACHE_TOKENS),
        "samples": {
            "token_nll": writer.store(f"samples/{stem}-token-nll.parquet", lambda p: tables.write_token_nll(p, nll)),
            "routing": writer.store(f"samples/{stem}-routing.npz", lambda p: tables.write_arrays(p, routing)),
        },
        "verdict": verdict(judge_check(backend.check)),
    }


def _score(backend, windows: HeldoutWindows, spec: QualitySpec, recorder, scratch: Path, *, is_baseline: bool, progress):
    """(nll [W, T] float32 nats, Divergence or None when there is no BF16 run to hold against)."""
    reference = _Reference.open(scratch, windows, spec, vocab_size=backend.model.config.vocab_size, is_baseline=is_baseline)
    nll = np.empty((windows.tokens.shape[0], windows.tokens.shape[1] - 1), dtype=np.float32)
    for start in range(0, len(nll), spec.batch_windows):
        tokens = torch.from_numpy(windows.tokens[start : start + spec.batch_windows]).to(backend.model.device)
        recorder.begin_step("score", tokens[:, :-1].numel(), start)
        logits = backend.score(tokens[:, :-1], recorder)
        log_probabilities = logits.log_softmax(-1)
        targets = tokens[:, 1:, None]
        nll[start : start + len(tokens)] = -log_probabilities.gather(-1, targets).squeeze(-1).cpu().numpy()
        if reference is not None:
            reference.take(start, log_probabilities.cpu())
        progress(start + len(tokens), len(nll), "windows")
    return nll, None if reference is None else reference.finish()


class _Reference:
    """BF16's distribution on disk: written by the BF16 run, read by the others once it is whole."""

    def __init__(self, log_probabilities: np.ndarray, top1: np.ndarray, files: tuple[Path, Path], *, is_baseline: bool):
        self._files = files
        self._log_probabilities, self._top1, self._is_baseline = log_probabilities, top1, is_baseline
        self._kl_sum, self._agreed, self._compared = 0.0, 0, 0

    @classmethod
    def open(cls, scratch: Path, windows: HeldoutWindows, spec: QualitySpec, *, vocab_size: int, is_baseline: bool):
        """Files for writing (BF16) or reading (others); None when the BF16 run left none of this shape."""
        count, length = windows.tokens.shape[0], windows.tokens.shape[1] - 1
        kl_windows = min(count, max(1, spec.kl_tokens // length))
        files = (scratch / "log_probabilities.npy", scratch / "top1.npy")
        shapes = ((kl_windows, length, vocab_size), (count, length))
        if is_baseline:
            for file in files:
                file.unlink(missing_ok=True)
            parts = zip(files, (np.float32, np.int32), shapes, strict=True)
            arrays = [_allocate(_part(file), kind, shape) for file, kind, shape in parts]
        else:
            if not all(file.is_file() for file in files):
                return None
            arrays = [np.load(file, mmap_mode="r") for file in files]
            if tuple(array.shape for array in arrays) != shapes:
                return None
        return cls(*arrays, files, is_baseline=is_baseline)

    def take(self, start: int, log_probabilities: torch.Tensor) -> None:
        """One batch of windows: log_probabilities [B, T, V] of the windows from `start` on."""
        end = start + len(log_probabilities)
        top1 = log_probabilities.argmax(-1).numpy()
        overlap = max(0, min(end, len(self._log_probabilities)) - start)
        if self._is_baseline:
            self._top1[start:end] = top1
            self._log_probabilities[start : start + overlap] = log_probabilities[:overlap].numpy()
            return
        self._agreed += int((self._top1[start:end] == top1).sum())
        self._compared += top1.size
        if overlap:
            base = torch.from_numpy(self._log_probabilities[start : start + overlap].copy()).double()
            kl = (base.exp() * (base - log_probabilities[:overlap].double())).sum(-1)
            self._kl_sum += float(kl.sum())

    def finish(self) -> Divergence:
        """Means over what was taken; for BF16 itself there is nothing to compare and the files are flushed."""
        if self._is_baseline:
            self._log_probabilities.flush()
            self._top1.flush()
            for file in self._files:
                os.replace(_part(file), file)
            return Divergence(0.0, 0, 1.0, 0)
        count = self._log_probabilities.shape[0] * self._log_probabilities.shape[1]
        return Divergence(self._kl_sum / count, count, self._agreed / self._compared, self._compared)


def _part(file: Path) -> Path:
    return file.with_suffix(".part")


def _allocate(file: Path, kind: type, shape: tuple[int, ...]) -> np.ndarray:
    """A new array on disk, with its space reserved: on a full disk, writing to it later would end the process."""
    try:
        array = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with file.open("r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise storage_error(file, error) from None
    return array


def _divergence_metrics(divergence: Divergence | None, *, is_baseline: bool) -> dict:
    names = ("mean_kl_nats", "top1_agreement_pct")
    if is_baseline:
        return {name: missing(name, "this is the BF16 run that the others are held against") for name in names}
    if divergence is None:
        return {name: missing(name, NO_BASELINE) for name in names}
    agreement = 100 * divergence.top1_agreement
    return {
        "mean_kl_nats": measured("mean_kl_nats", divergence.mean_kl_nats, divergence.num_kl_tokens),
        "top1_agreement_pct": measured("top1_agreement_pct", agreement, divergence.num_compared),
    }
