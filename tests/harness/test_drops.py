"""Dropped cells shown together."""

from harness.drops import group_drops


def row(model: str, workload: str, target: str, reason: str) -> dict:
    return {
        "model": model,
        "precision": {"label": "BF16 x BF16"},
        "workload": {"name": workload},
        "target": target,
        "reason": reason,
    }


def test_same_model_and_reason_share_a_line():
    groups = group_drops(
        [row("m", "a", "h100", "needs H100"), row("m", "b", "h100", "needs H100"), row("m", "a", "b200", "needs B200")]
    )
    assert [group.line for group in groups] == ["m, 2 cells on h100: needs H100", "m, 1 cell on b200: needs B200"]
    assert groups[0].workloads == ("a", "b")


def test_nothing_dropped():
    assert group_drops([]) == []
