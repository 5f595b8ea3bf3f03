"""Workload requests: seeded, the same on every call, arriving as asked."""

import numpy as np
import pytest
from scipy import stats

from harness.scenario.schema import WorkloadSpec
from harness.workload.arrivals import arrival_times_s
from harness.workload.requests import plan_requests

TEXT = list(range(1000, 3000))


def spec(**changes) -> WorkloadSpec:
    base = {"name": "w", "prompt_tokens": 10, "output_tokens": 4, "num_requests": 6}
    return WorkloadSpec.model_validate(base | {"arrival": {"kind": "closed", "concurrency": 2}} | changes)


def test_same_seed_same_requests():
    assert plan_requests(spec(), TEXT, 4096, 7) == plan_requests(spec(), TEXT, 4096, 7)


def test_other_seed_or_workload_other_prompts():
    base = [request.prompt_ids for request in plan_requests(spec(), TEXT, 4096, 7)]
    assert base != [request.prompt_ids for request in plan_requests(spec(), TEXT, 4096, 8)]
    assert base != [request.prompt_ids for request in plan_requests(spec(name="v"), TEXT, 4096, 7)]


def test_prompts_are_windows_of_the_text():
    for request in plan_requests(spec(), TEXT, 4096, 0):
        assert request.prompt_ids == list(range(request.prompt_ids[0], request.prompt_ids[0] + 10))


@pytest.mark.parametrize("length", [10, 11, 25], ids=["equal", "one-longer", "several-times"])
def test_prompt_longer_than_the_text_repeats_it(length):
    request = plan_requests(spec(prompt_tokens=length), TEXT[:10], 4096, 0)[0]
    assert request.prompt_ids == [TEXT[i % 10] for i in range(length)]


def test_without_a_text_tokens_are_drawn_from_the_vocabulary():
    prompts = np.array([request.prompt_ids for request in plan_requests(spec(), None, 50, 0)])
    assert prompts.min() >= 3 and prompts.max() < 50


def test_closed_loop_has_no_schedule():
    assert {request.scheduled_s for request in plan_requests(spec(), TEXT, 4096, 0)} == {None}


def test_constant_arrivals():
    workload = spec(arrival={"kind": "constant", "rate_per_s": 4.0})
    times = [request.scheduled_s for request in plan_requests(workload, TEXT, 4096, 0)]
    assert times == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]


def test_poisson_gaps_are_exponential():
    workload = spec(num_requests=5000, arrival={"kind": "poisson", "rate_per_s": 20.0})
    times = np.array(arrival_times_s(workload.arrival, 5000, np.random.default_rng(1)))
    assert times[0] == 0.0
    # One seeded draw of 5000: a right generator fails a 0.1 % test once in a thousand seeds, and this seed passes.
    assert stats.kstest(np.diff(times), "expon", args=(0, 1 / 20)).pvalue > 0.001
