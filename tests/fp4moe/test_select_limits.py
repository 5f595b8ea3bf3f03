"""Which shapes a row takes, with the limit and the value in words."""

import pytest

from fp4moe.select.limits import ANY_SHAPE, MoeShape, ShapeLimits

MIXTRAL = MoeShape(hidden=4096, intermediate=14336, num_experts=8, top_k=2)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        pytest.param(ShapeLimits(hidden_multiple=3), "needs hidden a multiple of 3 (got 4096)", id="hidden-multiple"),
        pytest.param(ShapeLimits(intermediate_multiple=5), "needs intermediate a multiple of 5 (got 14336)", id="intermediate"),
        pytest.param(ShapeLimits(max_hidden=4095), "needs at most 4095 hidden (got 4096)", id="hidden-too-large"),
        pytest.param(ShapeLimits(max_experts=7), "needs at most 7 experts (got 8)", id="too-many-experts"),
        pytest.param(ShapeLimits(max_top_k=1), "needs at most 1 experts a token (got 2)", id="too-many-experts-a-token"),
    ],
)
def test_a_shape_beyond_a_limit_is_refused_with_both(limits, reason):
    assert limits.refusal(MIXTRAL) == reason
    assert limits.needs == (reason.removeprefix("needs ").partition(" (got")[0],)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(ANY_SHAPE, id="no-limit"),
        pytest.param(ShapeLimits(128, 128, 4096, 8, 2), id="each-limit-met-exactly"),
    ],
)
def test_a_shape_within_the_limits_is_taken(limits):
    assert limits.refusal(MIXTRAL) is None
