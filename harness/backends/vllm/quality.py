"""Quality of vLLM on the held-out text, from its prompt log-probabilities: the same windows, the same definition of NLL as
ours.

In: an Engine, a quality spec. Out: perplexity, agreement of the likeliest token with BF16 (native's, where this run has
it), token NLLs for the paired comparison, expert usage where this vLLM returns it. The whole distribution is not asked for:
KL is not measured.
"""

import base64
from pathlib import Path

import numpy as np

from harness.backends.native_quality import CACHE_TOKENS
from harness.backends.native_speed import expert_block
from harness.backends.vllm.engine import Engine
from harness.collect import tables
from harness.collect.values import measured, missing
from harness.quality import NO_BASELINE
from harness.record.write import RunWriter
from harness.scenario.schema import QualitySpec
from harness.stats.bits import bits_per_byte, perplexity
from harness.verdict import verdict
from harness.workload.heldout import HeldoutWindows, make_windows

NO_KL = "needs the whole distribution; an engine beside ours returns the likeliest tokens alone"


def measure(backend, engine: Engine, *, cell: dict, folder: Path, progress) -> dict:
    """The one repeat of a `heldout` cell."""
    spec = QualitySpec.model_validate(cell["workload"])
    windows = heldout_windows(backend, spec)
    answer = engine.ask("score", timeout_s=backend.sizes.cell_timeout_s, progress=progress, windows=windows.tokens.tolist())
    nll, top1 = np.asarray(answer["nll_nats"], np.float32), np.asarray(answer["top1"])
    metrics = quality_metrics(nll, windows) | divergence(top1, folder / "scratch" / cell["model"])
    writer, stem = RunWriter(folder), cell["stem"]
    samples = {"token_nll": writer.store(f"samples/{stem}-token-nll.parquet", lambda p: tables.write_token_nll(p, nll))}
    experts = None
    if answer["routed"] is not None:
        ids = np.concatenate([_unpacked(window) for window in answer["routed"]])
        steps = np.arange(len(ids), dtype=np.int32)
        experts = expert_block(backend.stored(), ids, steps, phase="score", cache_tokens=CACHE_TOKENS)
        arrays = {"expert_ids": ids, "step": steps}
        samples["routing"] = writer.store(f"samples/{stem}-routing.npz", lambda p: tables.write_arrays(p, arrays))
    return {"metrics": metrics, "experts": experts, "samples": samples, "verdict": verdict([])}


def heldout_windows(backend, spec: QualitySpec) -> HeldoutWindows:
    """The windows that every backend scores."""
    ids, num_bytes = backend.text()
    bos = backend.source.config["bos_token_id"]
    return make_windows(ids, num_bytes, window=spec.window_tokens, max_tokens=spec.max_tokens, bos_id=bos)


def quality_metrics(nll: np.ndarray, windows: HeldoutWindows) -> dict[str, dict]:
    """Metrics of token NLLs [W, T] in nats."""
    total, count = float(nll.sum(dtype=np.float64)), windows.num_scored
    return {
        "mean_nll_nats": measured("mean_nll_nats", total / count, count),
        "perplexity": measured("perplexity", perplexity(total, count), count),
        "bits_per_byte": measured("bits_per_byte", bits_per_byte(total, windows.num_bytes), count),
        "num_scored_tokens": measured("num_scored_tokens", count, count),
    }


def divergence(top1: np.ndarray | None, scratch: Path) -> dict[str, dict]:
    """Agreement with the likeliest tokens that the BF16 run of our runtime left in this run's scratch folder."""
    kl = {"mean_kl_nats": missing("mean_kl_nats", NO_KL)}
    file, name = scratch / "top1.npy", "top1_agreement_pct"
    if top1 is None:
        return kl | {name: missing(name, "the server does not tell the likeliest token's id")}
    baseline = np.load(file) if file.is_file() else None
    if baseline is None or baseline.shape != top1.shape:
        return kl | {name: missing(name, NO_BASELINE)}
    return kl | {name: measured(name, 100 * float((baseline == top1).mean()), top1.size)}


def _unpacked(window: dict) -> np.ndarray:
    """uint8 [tokens, layers, k]."""
    return np.frombuffer(base64.b64decode(window["data"]), np.uint8).reshape(window["shape"])
