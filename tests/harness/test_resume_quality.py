"""What `--resume` measures again: qualities that were measured while BF16's was missing."""

from types import SimpleNamespace

import pytest

from harness.quality import NO_BASELINE
from harness.run.execute import _uncompared

UNCOMPARED = {"value": None, "reason": NO_BASELINE}


def record(status: str = "ok", change: dict | None = None, model: str = "m") -> dict:
    metrics = {} if change is None else {"perplexity_change_pct": change}
    return {"cell_id": "m/native/nvfp4/heldout", "repeat": 0, "model": model, "status": status, "metrics": metrics}


def plan(*, has_baseline: bool) -> SimpleNamespace:
    cell = SimpleNamespace(model="m", is_quality=True, precision=SimpleNamespace(is_baseline=has_baseline))
    return SimpleNamespace(plan=SimpleNamespace(cells=[cell]))


@pytest.mark.parametrize(
    ("has_baseline", "kept", "again"),
    [
        pytest.param(True, record(change=UNCOMPARED), True, id="bf16-had-died"),
        pytest.param(False, record(change=UNCOMPARED), False, id="the-plan-has-no-bf16"),
        pytest.param(True, record(change=UNCOMPARED, model="other"), False, id="bf16-of-another-model"),
        pytest.param(True, record(change={"value": 0.9, "reason": None}), False, id="compared"),
        pytest.param(True, record(change={"value": None, "reason": "one window"}), False, id="another-reason"),
        pytest.param(True, record(), False, id="a-speed"),
        pytest.param(True, record("failed"), False, id="failed-runs-again-anyway"),
    ],
)
def test_qualities_without_their_baseline_are_measured_again(has_baseline, kept, again):
    found = _uncompared(plan(has_baseline=has_baseline), SimpleNamespace(records=[kept]))
    assert found == ({(kept["cell_id"], 0)} if again else set())
