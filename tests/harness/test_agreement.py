"""Greedy agreement: tokens before the first that differs, and every reason that there is none."""

import math

import numpy as np
import pytest

from harness import agreement
from harness.agreement import agreement_metrics, common_prefix, find_reference, quality_agreement
from harness.collect.outputs import write_outputs
from harness.collect.tables import write_token_nll


def _record(backend: str, outputs: str | None, **changes) -> dict:
    return {
        "cell_id": f"m/{backend}/bf16-a16/w/cpu", "model": "m", "backend": backend, "repeat": 0, "status": "ok",
        "precision": {"id": "bf16-a16"}, "workload": {"name": "w", "sampling": {"temperature": 0.0}},
        "weights": {"source": "trained"}, "samples": {"outputs": outputs} if outputs else {},
    } | changes  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    write_outputs(tmp_path / "ours", {"a": [1, 2, 3, 4], "b": [5, 6]})
    write_outputs(tmp_path / "theirs", {"a": [1, 2, 9, 4], "b": [5, 6], "c": [7]})
    return tmp_path


def test_counts_what_comes_before_the_first_difference(folder):
    found = agreement_metrics(folder, _record("vllm", "theirs"), _record("native", "ours"))
    assert found["greedy_agreement_pct"]["value"] == pytest.approx(100 * 4 / 6)  # 2 of 4 and 2 of 2 of native's 6 tokens
    assert found["identical_outputs_pct"]["value"] == 50.0
    assert found["greedy_agreement_pct"]["n"] == 2


@pytest.mark.parametrize(("a", "b", "same"), [([], [], 0), ([1], [], 0), ([1, 2], [1, 2, 3], 2), ([2], [1], 0)])
def test_common_prefix(a, b, same):
    assert common_prefix(a, b) == same


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"workload": {"name": "w", "sampling": {"temperature": 0.7}}}, agreement.SAMPLED, id="sampled"),
        pytest.param({"weights": {"source": "random"}}, "random weights differ between engines", id="random"),
        pytest.param({"samples": {}}, "this backend does not tell the token ids of its answers", id="no-ids"),
        pytest.param({"samples": {"outputs": "nowhere"}}, "cannot be read", id="file-gone"),
    ],
)
def test_null_with_its_reason(folder, changes, reason):
    found = agreement_metrics(folder, _record("vllm", "theirs") | changes, _record("native", "ours"))
    assert all(metric["value"] is None and reason in metric["reason"] for metric in found.values())


def test_reference_is_the_native_record_of_the_same_question():
    native, other = _record("native", "ours"), _record("native", "ours", repeat=1)
    assert find_reference([other, native], _record("vllm", "theirs")) is native
    assert find_reference([other], _record("vllm", "theirs")) is None
    assert find_reference([], native) is native


@pytest.mark.parametrize("shift", [0.0, 0.01])
def test_perplexity_against_native_is_paired_by_token(tmp_path, shift):
    nll = np.random.default_rng(0).exponential(2.0, (4, 64)).astype(np.float32)
    write_token_nll(tmp_path / "native", nll)
    write_token_nll(tmp_path / "vllm", nll + np.float32(shift))
    native, vllm = (_record(name, None, samples={"token_nll": name}) for name in ("native", "vllm"))
    found = quality_agreement(tmp_path, vllm, native)["perplexity_vs_native_pct"]
    # float32 holds NLLs of about 2 to 2^-23 of their size
    assert found["value"] == pytest.approx(100 * (math.exp(shift) - 1), abs=1e-4) and found["n"] == 256


@pytest.mark.parametrize(("reference", "reason"), [(None, agreement.NO_REFERENCE), ("itself", agreement.IS_REFERENCE)])
def test_perplexity_against_nothing_has_its_reason(tmp_path, reference, reason):
    record = _record("native", None)
    found = quality_agreement(tmp_path, record, record if reference else None)["perplexity_vs_native_pct"]
    assert (found["value"], found["reason"]) == (None, reason)
