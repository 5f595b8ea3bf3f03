"""Which requests a step of the GPU engine serves: order, slots, stretches of prompts; no slot is ever lost or shared."""

from collections import Counter
from random import Random

import pytest

from fp4moe.runtime.gpu.schedule import DecodeStep, PromptStep, Run, Schedule
from fp4moe.runtime.gpu.segment import Segment
from fp4moe.runtime.request import Request


def run_of(number: int, prompt: int, new: int) -> Run:
    return Run(Request(f"r{number}", [0] * prompt, new), number)


def schedule_of(*sizes: tuple[int, int], slots: int = 2, step_tokens: int = 8) -> tuple[Schedule, list[Run]]:
    """With requests of (prompt tokens, new tokens) waiting in this order."""
    schedule = Schedule(slots, step_tokens)
    runs = [run_of(number, *size) for number, size in enumerate(sizes)]
    schedule.waiting.extend(runs)
    return schedule, runs


def numbers(step: PromptStep | DecodeStep) -> list[int]:
    return [run.number for run in step.runs]


def spans(step: PromptStep) -> list[tuple[int, int]]:
    return [(segment.start, segment.end) for segment in step.segments]


def assert_nobody_is_left(schedule: Schedule) -> None:
    assert not schedule.waiting and not schedule.running and sorted(schedule.free) == list(range(schedule.num_slots))


def test_without_requests_there_is_no_step():
    assert Schedule(2, 8).next_step() is None


def test_prompts_come_first_in_order_and_share_a_step_up_to_its_tokens():
    schedule, _ = schedule_of((3, 2), (4, 2), (1, 2), (1, 2), slots=4)
    step = schedule.next_step()
    assert isinstance(step, PromptStep) and numbers(step) == [0, 1, 2] and step.num_tokens == 8
    assert [(place, run.number) for place, run in step.ends] == [(0, 0), (1, 1), (2, 2)]
    assert numbers(schedule.next_step()) == [3]  # another prompt, before anybody decodes
    assert isinstance(schedule.next_step(), DecodeStep)


def test_slots_are_dealt_from_the_lowest_and_a_request_beyond_them_waits():
    schedule, runs = schedule_of((1, 3), (1, 3), (1, 3))
    assert schedule.next_step().segments == (Segment(0, 0, 1), Segment(1, 0, 1))
    assert [run.slot for run in runs] == [0, 1, -1] and list(schedule.waiting) == runs[2:]


def test_a_prompt_longer_than_a_step_goes_in_stretches_and_ends_once():
    schedule, (run,) = schedule_of((20, 2))
    steps = [schedule.next_step() for _ in range(3)]
    assert [spans(step) for step in steps] == [[(0, 8)], [(8, 16)], [(16, 20)]]
    assert [len(step.ends) for step in steps] == [0, 0, 1]
    decode = schedule.next_step()
    assert isinstance(decode, DecodeStep) and decode.runs == (run,) and run.num_planned == 2


def test_the_rest_of_a_begun_prompt_goes_before_new_ones_and_they_fill_its_step_up():
    schedule, _ = schedule_of((11, 2), (4, 2))
    schedule.next_step()
    step = schedule.next_step()
    assert numbers(step) == [0, 1] and spans(step) == [(8, 11), (0, 4)]


def test_a_prompt_cut_by_the_budget_takes_its_slot_but_gets_no_token():
    schedule, (first, second) = schedule_of((6, 2), (6, 2))
    step = schedule.next_step()
    assert spans(step) == [(0, 6), (0, 2)] and [run for _, run in step.ends] == [first]
    assert second.slot == 1 and second.num_left == 4


def test_decoding_serves_everyone_past_the_prompt_in_order():
    schedule, _ = schedule_of((1, 3), (1, 2), slots=2)
    schedule.next_step()
    assert [numbers(schedule.next_step()) for _ in range(2)] == [[0, 1], [0]]
    assert schedule.next_step() is None
    assert_nobody_is_left(schedule)


def test_one_new_token_ends_with_the_prompt_and_its_slot_is_free_for_the_next_step_not_for_this_one():
    schedule, runs = schedule_of((1, 1), (1, 1), (1, 1), slots=1)
    for run in runs:
        step = schedule.next_step()
        assert step.runs == (run,) and step.segments == (Segment(0, 0, 1),)
    assert schedule.next_step() is None
    assert_nobody_is_left(schedule)


def test_a_slot_is_given_back_when_the_last_token_is_planned_though_nothing_was_read():
    schedule, (first, second) = schedule_of((1, 2), (1, 2), slots=1)
    assert isinstance(schedule.next_step(), PromptStep) and not schedule.free
    assert schedule.next_step().runs == (first,) and schedule.free == [0] and not first.is_over
    assert schedule.next_step().runs == (second,)


def test_dropping_a_waiting_request_leaves_the_slots_alone():
    schedule, (first, second) = schedule_of((1, 3), (1, 3), slots=1)
    schedule.next_step()
    schedule.drop(second)
    assert second.is_over and not schedule.waiting and not schedule.free and list(schedule.running) == ["r0"]


def test_dropping_a_request_in_the_middle_of_its_prompt_frees_its_slot_for_the_next():
    schedule, (first, second) = schedule_of((20, 3), (2, 3), slots=1)
    schedule.next_step()
    schedule.drop(first)
    assert schedule.next_step().segments == (Segment(0, 0, 2),)
    assert first.is_over and second.slot == 0


def test_dropping_a_decoding_request_takes_it_out_of_the_next_step():
    schedule, (first, second) = schedule_of((1, 9), (1, 9))
    schedule.next_step()
    schedule.next_step()
    schedule.drop(first)
    assert schedule.next_step().runs == (second,) and schedule.free == [0]


def test_dropping_a_request_that_is_planned_to_its_end_does_not_free_the_slot_of_another():
    """The slot went to `second` when the last step of `first` was planned."""
    schedule, (first, second) = schedule_of((1, 1), (1, 5), slots=1)
    schedule.next_step()
    schedule.next_step()
    schedule.drop(first)
    assert schedule.free == [] and schedule.running["r1"] is second


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_requests_leave_no_slot_behind_and_lose_no_token(seed):
    """Random sizes, slots, arrivals and drops; every step is checked as it is planned."""
    random = Random(seed)
    schedule = Schedule(num_slots=random.choice((1, 3, 8)), step_tokens=random.choice((1, 7, 64)))
    runs = [run_of(number, random.randint(1, 20), random.randint(1, 6)) for number in range(2500)]
    read, planned, coming, live = Counter(), Counter(), iter(runs), {}
    is_over = False
    while not is_over or live:
        for _ in range(random.randint(0, 3) if len(live) < 20 else 0):
            run = next(coming, None)
            is_over = run is None
            if run is not None:
                live[run.number] = run
                schedule.waiting.append(run)
        if live and random.random() < 0.02:
            schedule.drop(live.pop(random.choice(list(live))))
        step = schedule.next_step()
        assert (step is None) == (not live)
        if step is None:
            continue
        assert all(not run.is_over for run in step.runs)
        if isinstance(step, PromptStep):
            assert 0 < step.num_tokens <= schedule.step_tokens
            assert len({segment.slot for segment in step.segments}) == len(step.segments)
            for run, segment in zip(step.runs, step.segments, strict=True):
                assert segment.slot == run.slot and segment.start == read[run.number] and segment.count > 0
                read[run.number] += segment.count
        else:
            assert len({run.slot for run in step.runs}) == len(step.runs) <= schedule.num_slots
        for run in [run for _, run in step.ends] if isinstance(step, PromptStep) else step.runs:
            planned[run.number] += 1
            if planned[run.number] == run.request.max_new_tokens:
                schedule.drop(live.pop(run.number))
    assert_nobody_is_left(schedule)
    dropped_early = [run for run in runs if planned[run.number] < run.request.max_new_tokens]
    assert 0 < len(dropped_early) < 1250  # both kinds of end are seen
    assert all(read[run.number] == len(run.request.prompt_ids) for run in runs if run not in dropped_early)
