"""BF16's distribution on disk: whole or not there, so that nothing is ever held against half of one."""

import errno

import pytest
import torch

from harness.backends import native_quality
from harness.backends.native_quality import _Reference
from harness.errors import StorageError
from harness.scenario.schema import QualitySpec
from harness.workload.heldout import HeldoutWindows

VOCABULARY, WINDOWS, LENGTH = 8, 4, 16
SPEC = QualitySpec(window_tokens=LENGTH, max_tokens=WINDOWS * LENGTH, kl_tokens=2 * LENGTH)


@pytest.fixture
def windows() -> HeldoutWindows:
    tokens = torch.zeros(WINDOWS, LENGTH + 1, dtype=torch.int64).numpy()
    return HeldoutWindows(tokens, WINDOWS * LENGTH)


@pytest.fixture
def log_probabilities() -> torch.Tensor:
    """[W, T, V]"""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(WINDOWS, LENGTH, VOCABULARY, generator=generator).log_softmax(-1)


def write(folder, windows, values, num_windows: int = WINDOWS, end: str = "finished") -> None:
    baseline = _Reference.open(folder, windows, SPEC, vocab_size=VOCABULARY, is_baseline=True)
    baseline.take(0, values[:num_windows])
    if end == "finished":
        baseline.finish()


def compare(folder, windows, values):
    reference = _Reference.open(folder, windows, SPEC, vocab_size=VOCABULARY, is_baseline=False)
    if reference is None:
        return None
    reference.take(0, values)
    return reference.finish()


def test_the_same_distribution_has_no_divergence(tmp_path, windows, log_probabilities):
    write(tmp_path, windows, log_probabilities)
    divergence = compare(tmp_path, windows, log_probabilities)
    assert divergence.mean_kl_nats == 0.0 and divergence.top1_agreement == 1.0
    assert divergence.num_kl_tokens == 2 * LENGTH


def test_divergence_is_the_mean_over_the_first_windows(tmp_path, windows, log_probabilities):
    write(tmp_path, windows, log_probabilities)
    other = (log_probabilities * 0.5).log_softmax(-1)
    base = log_probabilities[:2].double()
    expected = (base.exp() * (base - other[:2].double())).sum(-1).mean().item()
    # Both sides are means of the same 32 float64 sums; only the order of adding differs.
    assert compare(tmp_path, windows, other).mean_kl_nats == pytest.approx(expected, rel=1e-12)


def test_a_bf16_run_that_was_cut_off_leaves_nothing_to_compare_with(tmp_path, windows, log_probabilities):
    write(tmp_path, windows, log_probabilities, num_windows=2, end="cut off")
    assert compare(tmp_path, windows, log_probabilities) is None


def test_a_second_bf16_run_that_was_cut_off_takes_the_first_away(tmp_path, windows, log_probabilities):
    write(tmp_path, windows, log_probabilities)
    write(tmp_path, windows, log_probabilities, num_windows=2, end="cut off")
    assert compare(tmp_path, windows, log_probabilities) is None


def test_other_windows_are_not_compared(tmp_path, windows, log_probabilities):
    write(tmp_path, windows, log_probabilities)
    fewer = HeldoutWindows(windows.tokens[:3], 3 * LENGTH)
    assert _Reference.open(tmp_path, fewer, SPEC, vocab_size=VOCABULARY, is_baseline=False) is None


def test_no_room_is_said_before_anything_is_measured(tmp_path, windows, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(native_quality.os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"log_probabilities.part: could not be stored \(No space left"):
        _Reference.open(tmp_path, windows, SPEC, vocab_size=VOCABULARY, is_baseline=True)
    assert list(tmp_path.iterdir()) == []
