"""The served backend without a worker: our own server measured through HTTP, and URLs that are none, named in the verdict."""

import json
import os
import socket
from dataclasses import asdict
from functools import cache

import pytest

from fake_api import fake_api, models
from fp4moe import pocket
from harness.backends.served.backend import ServedBackend
from harness.errors import WorkerError
from harness.models import resolve
from harness.precisions import Precision
from harness.scenario.schema import ModelSpec, QualitySpec, WorkloadSpec
from harness.workload.heldout import encode_text

BF16 = Precision("bf16", "none", "bf16")
REQUESTS = WorkloadSpec.model_validate(
    {"name": "w", "prompt_tokens": 16, "output_tokens": 4, "num_requests": 4, "arrival": {"kind": "closed", "concurrency": 2}}
)
QUALITY = QualitySpec(window_tokens=64, max_tokens=256, kl_tokens=64)


@cache
def _text():
    """The beginning of the held-out text: encoding all of it takes seconds."""
    folder = pocket.checkpoint_dir()
    return encode_text(folder, pocket.heldout_text()[:20_000])


def _silent(*told) -> None:
    pass


def _load(backend: ServedBackend, spec: dict) -> dict:
    source = asdict(resolve(ModelSpec(name="pocket-mixtral")))
    sizes = {"slots": 2, "context": 65, "seed": 0, "cpu_threads": 1, "load_timeout_s": 60, "cell_timeout_s": 60}
    return backend.load(
        backend=spec,
        source=source,
        precision=asdict(BF16),
        torch_device="cpu",
        first_kind="requests",
        progress=_silent,
        sizes=sizes,
    )


def _measure(backend: ServedBackend, kind: str, folder) -> dict:
    spec = QUALITY if kind == "heldout" else REQUESTS
    cell = {"kind": kind, "model": "pocket-mixtral", "workload": spec.model_dump(mode="json"), "stem": kind}
    return backend.measure(cell=cell, folder=str(folder), seed=0, progress=_silent)


def test_our_own_server_started_measured_and_ended(tmp_path):
    backend = ServedBackend()
    backend._text = _text()
    try:
        loaded = _load(backend, {"kind": "native", "name": "native-served", "mode": "served"})
        requests, quality = (_measure(backend, kind, tmp_path) for kind in ("requests", "heldout"))
        pid = backend.launched.child._process.pid
    finally:
        backend.close()
    assert loaded["weights"]["source"] == "trained" and loaded["engine"]["model"] == "pocket-mixtral"
    assert "scaled_dot_product_attention" in loaded["engine"]["attention"]["chosen"]
    assert loaded["engine"]["kv_cache"]["dtype"] == "bf16"
    assert requests["metrics"]["output_throughput"]["value"] > 0 and requests["load"]["num_answered"] == 4
    assert requests["metrics"]["weight_bytes"]["value"] == 10_905_088  # the checkpoint's, in BF16
    assert quality["metrics"]["perplexity"]["n"] == 256 and 5 < quality["metrics"]["perplexity"]["value"] < 60
    assert {"requests", "outputs"} <= set(requests["samples"])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        pytest.param(200, "<html>hello</html>", "html_answer", id="a-web-page"),
        pytest.param(200, models("other"), "wrong_model", id="wrong-model"),
        pytest.param(None, "", "unreachable", id="nobody-listens"),
    ],
)
def test_a_url_that_is_none_makes_invalid_records_that_name_it(tmp_path, status, text, code):
    def answer(path: str, body: dict | None):
        if path == "/v1/models" or code != "wrong_model":
            return status, text
        return 404, json.dumps({"error": {"message": "The model `pocket` does not exist"}})

    with fake_api(answer) as url:
        spec = {"kind": "openai", "name": "mine", "url": url if status else _closed_port(), "model": "pocket"}
        backend = ServedBackend()
        backend._text = _text()
        _load(backend, spec)
        results = [_measure(backend, kind, tmp_path) for kind in ("requests", "heldout")]
    for result in results:
        assert result["verdict"]["state"] == "INVALID"
        assert code in {reason["code"] for reason in result["verdict"]["reasons"]}
    requests, quality = results
    assert requests["load"]["num_failed"] + requests["load"]["num_not_sent"] == 4
    assert requests["load"]["failures"][code]["count"] >= 1
    assert requests["metrics"]["output_throughput"]["value"] is None
    assert quality["metrics"]["perplexity"]["value"] is None and quality["metrics"]["perplexity"]["reason"]


@pytest.mark.parametrize(
    ("counted", "code", "state"),
    [
        pytest.param(5000, "tokenizer_mismatch", "INVALID", id="another-tokenizer"),
        pytest.param(None, "tokenizer_unchecked", None, id="no-answer"),
    ],
)
def test_the_tokenizer_of_a_server_is_held_against_ours(tmp_path, counted, code, state):
    def answer(path: str, body: dict | None):
        if path == "/v1/models":
            return 200, models("pocket")
        usage = {"usage": {"prompt_tokens": counted}, "choices": []}
        return (200, json.dumps(usage)) if counted else (400, json.dumps({"error": {"message": "too long"}}))

    with fake_api(answer) as url:
        backend = ServedBackend()
        backend._text = _text()
        _load(backend, {"kind": "openai", "name": "mine", "url": url, "model": "pocket"})
        quality = _measure(backend, "heldout", tmp_path)
    assert code in {reason["code"] for reason in quality["verdict"]["reasons"]}
    assert state is None or quality["verdict"]["state"] == state


def test_a_key_that_is_not_set_is_told(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(WorkerError, match="NO_SUCH_KEY is not set"):
        _load(ServedBackend(), {"kind": "openai", "name": "mine", "url": _closed_port(), "api_key_env": "NO_SUCH_KEY"})
