"""The published error: made without the target, within the aim where the page says so, and its sentences are its figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.project import curves, engines, loo, sharpness
from harness.project.loo import decode_errors, expected_error_pct, layer_errors, recorded_errors
from harness.project.sharpness import shipped_sharpness

AIMS_PCT = {"tpot": 10, "ttft": 15}
WAYS = [("H100", "H200"), ("H200", "H100")]


def errors_of(way, what, *, p=None) -> np.ndarray:
    return np.array([abs(row.error_pct) for row in decode_errors(*way, sharpness=p) if row.what == what])


def everything() -> dict[str, list]:
    """What is published, H200 left out."""
    recorded = [row for row in recorded_errors() if row.target == "H200"]
    return {"layers": layer_errors(), "steps": decode_errors(), "recorded": recorded}


def test_nothing_measured_on_the_target_enters_its_prediction(monkeypatch):
    """With every layer and whole model of the H200 measured otherwise, unevenly, its predictions stay what they are."""
    before = everything()

    def distorted(curve):
        points = [replace(point, us=point.us * (3 + point.tokens % 5)) for point in curve.points]
        return replace(curve, points=tuple(points)) if curve.gpu == "H200" else curve

    found = tuple(distorted(curve) for curve in curves.all_curves())
    seen = [replace(item, ms=7 * item.ms) if item.gpu == "H200" else item for item in engines.observations()]
    for module in (loo, engines, sharpness):
        monkeypatch.setattr(module, "all_curves", lambda: found)
    monkeypatch.setattr(loo, "observations", lambda: seen)
    sharpness.sharpness_without.cache_clear()
    try:
        after = everything()
    finally:
        sharpness.sharpness_without.cache_clear()
    assert [row.predicted_us for row in after["layers"]] == [row.predicted_us for row in before["layers"]]
    for kind in ("steps", "recorded"):
        assert [row.predicted_ms for row in after[kind]] == [row.predicted_ms for row in before[kind]]
        assert all(new.measured_ms > old.measured_ms for new, old in zip(after[kind], before[kind], strict=True))


@pytest.mark.parametrize("way", WAYS, ids="-to-".join)
@pytest.mark.parametrize("what", AIMS_PCT)
def test_the_mean_error_of_leaving_a_gpu_out_meets_the_aim(way, what):
    errors = errors_of(way, what)
    assert len(errors) >= 30 and errors.mean() <= AIMS_PCT[what]


@pytest.mark.parametrize(
    ("way", "what"),
    [
        pytest.param(WAYS[0], "ttft", id="first-token-on-H200"),
        pytest.param(WAYS[1], "tpot", id="decode-on-H100"),
        pytest.param(WAYS[1], "ttft", id="first-token-on-H100"),
    ],
)
def test_nine_of_ten_meet_the_aim(way, what):
    """Decode on H200 does not: `test_the_page_says_how_far_decode_falls_short`."""
    assert np.quantile(errors_of(way, what), 0.9) <= AIMS_PCT[what]


def test_the_page_says_how_far_decode_falls_short():
    errors, seen = (errors_of(WAYS[0], "tpot", p=p) for p in (None, shipped_sharpness().value))
    text = " ".join(Path("docs/projection.md").read_text(encoding="utf-8").split())
    within = f"the mean is {errors.mean():.1f} %, {np.sum(errors <= 10)} of {len(errors)} are within 10 %"
    assert f"{within}, nine of ten within {np.quantile(errors, 0.9):.1f} %, which misses the aim" in text
    assert f"{seen.mean():.1f} % in the mean and {np.quantile(seen, 0.9):.1f} % for nine of ten" in text


def test_the_readme_names_the_same_error():
    errors = errors_of(WAYS[0], "tpot")
    text = " ".join(Path("README.md").read_text(encoding="utf-8").split())
    assert f"{errors.mean():.0f} % on a decode step in the mean, nine of ten within {np.quantile(errors, 0.9):.0f} %" in text


def test_what_projections_carry_is_the_error_of_leaving_a_gpu_out():
    """Not that of the shipped P, which has seen both."""
    rows = [row for row in layer_errors() if row.counts and row.tokens <= loo.DECODE_TOKENS]
    assert expected_error_pct(is_prefill=False) == np.quantile([abs(row.error_pct) for row in rows], 0.9)
    shipped = layer_errors(sharpness=shipped_sharpness().value)
    assert [row.predicted_us for row in layer_errors()] != [row.predicted_us for row in shipped]


def test_untuned_peers_are_shown_and_do_not_count():
    rows = [row for row in layer_errors() if row.kernel == "vllm-bf16"]
    assert {row.counts for row in rows if row.tokens > 64} == {False}
    assert all(row.counts for row in rows if row.tokens <= 64)
