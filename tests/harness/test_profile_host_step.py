"""A decode step as the host's thread lives it: what counts as a step, parts that add up, and what is left out."""

import pytest

from harness.profile.host_step import host_step
from harness.profile.spans import Span
from harness.profile.table import CONTAINERS, PHASES, ROOTS
from profile_traces import step, trace


def seen(spans: list[Span]):
    return host_step(trace(spans), roots=ROOTS, phases=PHASES, containers=CONTAINERS)


def ahead(at: int, wait: int = 700) -> list[Span]:
    """1000 ns: a launch of 100 with 80 named, then waiting, 50 of emit, and the caller."""
    return [
        Span("decode step", at, at + 100),
        Span("prepare", at + 5, at + 35),
        Span("graph replay", at + 40, at + 90),
        Span("wait for the device", at + 110, at + 110 + wait),
        Span("emit", at + 820, at + 870),
    ]


def test_parts_and_what_is_between_them_are_the_whole():
    found = seen([*ahead(0), *ahead(1000), *ahead(2000), *ahead(3000)])
    assert (found.num_steps, found.period_ns, found.num_ranges) == (2, 1000, 5)
    assert found.parts == {"decode step": 80, "wait for the device": 700, "emit": 50}
    assert found.unnamed_ns == 170 and sum(found.parts.values()) + found.unnamed_ns == found.period_ns


def test_a_step_that_holds_all_of_its_work_has_no_waiting():
    found = seen([*step(0), *step(1500), *step(3000)])
    assert found.parts == {"decode step": 600}, "test_profile_table.py: 600 of 1000 ns name a piece of work"
    assert (found.num_steps, found.period_ns, found.unnamed_ns) == (1, 1500, 900)


def test_steps_beside_a_prompt_are_left_out():
    """The step launched behind a prompt waits for the prompt: 30 ms that no decode step took."""
    prompt = [Span("prefill", 0, 500), Span("prepare", 10, 400)]
    late = [*ahead(1000), Span("wait for the device", 31_900, 31_990), *ahead(32_000), *ahead(33_000), *ahead(34_000)]
    assert seen([*prompt, *late]).period_ns == 1000
    assert seen([*ahead(0), *ahead(1000), Span("prefill", 2000, 2500), *ahead(3000), *ahead(4000)]) is None


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_step_alone_has_no_next(count):
    assert seen([span for index in range(count) for span in ahead(1000 * index)]) is None


def test_another_thread_s_steps_are_no_neighbours():
    other = [Span(span.name, span.start_ns + 7, span.end_ns + 7, 2) for at in (0, 1000, 2000) for span in ahead(at)]
    found = seen([*ahead(0), *ahead(1000), *ahead(2000), *other])
    assert (found.num_steps, found.period_ns) == (2, 1000)
