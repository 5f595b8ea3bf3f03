"""Contenders are timed in turn, in an order that is drawn anew for each repeat."""

from harness.kernel_bench.timing import WALL, interleave


class Told:
    """A replay that writes down when it ran."""

    method = WALL

    def __init__(self, name: str, runs: list[str]) -> None:
        self.name, self.runs = name, runs

    def microseconds(self) -> float:
        self.runs.append(self.name)
        return float(len(self.runs))


def test_every_repeat_has_each_once_and_none_always_follows_the_same_one():
    runs: list[str] = []
    interleave([Told(name, runs) for name in "abcd"], 12)
    rounds = [runs[at : at + 4] for at in range(0, len(runs), 4)]
    assert len(rounds) == 13, "one untimed run of each, then the repeats"
    assert all(sorted(turn) == list("abcd") for turn in rounds)
    pairs = {pair for turn in rounds[1:] for pair in zip(turn, turn[1:], strict=False)}
    assert len({before for before, after in pairs if after == "b"}) == 3
    assert len({turn[0] for turn in rounds[1:]}) == 4


def test_samples_stay_with_their_contender_in_the_order_of_time():
    runs: list[str] = []
    for name, timed in zip("abc", interleave([Told(name, runs) for name in "abc"], 5), strict=True):
        assert timed.microseconds == tuple(at + 1.0 for at, ran in enumerate(runs) if ran == name and at >= 3)
        assert timed.method == WALL
