"""The change of perplexity against BF16: null with its reason wherever there is nothing to compare."""

import numpy as np
import pytest

from harness.collect.tables import write_token_nll
from harness.quality import NAMES, change_metrics, find_baseline

BASE_NLL = np.random.default_rng(0).uniform(1, 3, size=(64, 8)).astype(np.float32)


def heldout(weights: str, status: str = "ok", model: str = "m") -> dict:
    return {
        "cell_id": f"{model}/{weights}",
        "model": model,
        "backend": "native",
        "precision": {"weights": weights, "activations": "bf16"},
        "workload": {"kind": "heldout"},
        "status": status,
        "samples": {"token_nll": f"{weights}.parquet"},
    }


@pytest.fixture
def folder(tmp_path):
    write_token_nll(tmp_path / "bf16.parquet", BASE_NLL)
    write_token_nll(tmp_path / "nvfp4.parquet", BASE_NLL + np.float32(0.01))
    return tmp_path


def reasons(metrics: dict) -> set[str]:
    assert set(metrics) == set(NAMES) and all(metric["value"] is None for metric in metrics.values())
    return {metric["reason"] for metric in metrics.values()}


def test_a_constant_step_in_nll_is_that_change(folder):
    metrics = change_metrics(folder, heldout("nvfp4"), heldout("bf16"))
    # exp(0.01) - 1; the NLLs are float32, whose spacing near 3 is 2.4e-7.
    assert metrics[NAMES[0]]["value"] == pytest.approx(100 * np.expm1(0.01), abs=1e-4)
    assert metrics[NAMES[0]]["n"] == BASE_NLL.size


def test_no_baseline_and_the_baseline_itself_say_so(folder):
    assert "no BF16 run" in reasons(change_metrics(folder, heldout("nvfp4"), None)).pop()
    assert "this is the BF16 run" in reasons(change_metrics(folder, heldout("bf16"), heldout("bf16"))).pop()


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_samples_that_cannot_be_read_are_a_reason_and_not_the_end_of_the_run(folder, damage):
    file = folder / "bf16.parquet"
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:100])
    assert "token NLLs cannot be read" in reasons(change_metrics(folder, heldout("nvfp4"), heldout("bf16"))).pop()


def test_baseline_is_the_finished_bf16_run_of_the_same_model():
    records = [heldout("nvfp4"), heldout("bf16", "failed"), heldout("bf16", model="other"), heldout("bf16")]
    assert find_baseline(records, "m", "native") is records[3]
    assert find_baseline(records[:3], "m", "native") is None
