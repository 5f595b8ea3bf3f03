"""Graphs by number of lanes, and what they keep: a capture on a CPU is a fake that runs the body."""

import contextlib
import gc
import weakref

import pytest
import torch

from fp4moe.runtime.gpu import graphs


class FakeGraph:
    def __init__(self):
        self.calls = []

    def capture_begin(self, pool):
        self.calls.append(("begin", pool))

    def capture_end(self):
        self.calls.append("end")

    def replay(self):
        self.calls.append("replay")


class FakeStream:
    def wait_stream(self, other):
        pass

    def synchronize(self):
        pass


@pytest.fixture
def captured(monkeypatch):
    made = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: made.append(FakeGraph()) or made[-1])
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    graphs._side_stream.cache_clear()
    monkeypatch.setattr(torch.cuda, "current_stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    yield made
    graphs._side_stream.cache_clear()


def test_every_engine_captures_on_the_same_stream(captured):
    """cuBLAS keeps a workspace for each stream that it has seen: engines of their own took 60 MB more each."""
    assert graphs.StepGraphs()._side is graphs.StepGraphs()._side


def test_what_a_body_refers_to_lives_as_long_as_its_graph(captured):
    """The lengths of a captured prompt are read at every replay; once they were freed after the capture."""
    held, steps = torch.arange(4), graphs.StepGraphs()
    alive = weakref.ref(held)
    steps.capture("prompt", lambda held=held: held + 1)
    del held
    gc.collect()
    assert alive() is not None and "prompt" in steps
    steps.clear()
    gc.collect()
    assert alive() is None and len(steps) == 0


def test_a_body_runs_once_to_warm_up_and_once_under_capture_in_the_shared_pool(captured):
    steps, runs = graphs.StepGraphs(), []
    for key in (2, 1):
        steps.capture(key, lambda key=key: runs.append(key) or key * 10)
    assert runs == [2, 2, 1, 1] and [graph.calls for graph in captured] == [[("begin", (0, 1)), "end"]] * 2
    assert steps.replay(1) == 10 and captured[1].calls[-1] == "replay"


def test_a_body_that_fails_ends_its_capture_and_leaves_no_graph(captured):
    steps, runs = graphs.StepGraphs(), []

    def body():
        runs.append(1)
        if len(runs) == 2:
            raise RuntimeError("in the capture")

    with pytest.raises(RuntimeError, match="in the capture"):
        steps.capture(1, body)
    assert captured[0].calls[-1] == "end" and 1 not in steps


@pytest.mark.parametrize(
    ("requests", "most", "lanes"), [(1, 256, 1), (32, 256, 32), (33, 256, 48), (250, 256, 256), (40, 41, 41)]
)
def test_lanes(requests, most, lanes):
    assert graphs.lanes_for(requests, most) == lanes and lanes in graphs.all_lanes(most)


def test_graphs_captured_after_a_clear_get_a_pool_of_their_own(captured, monkeypatch):
    """The allocator refuses a pool that no graph uses any more; imposing a routing captures anew."""
    pools = iter([(0, 1), (0, 2)])
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(pools))
    steps = graphs.StepGraphs()
    steps.capture(1, lambda: None)
    steps.clear()
    steps.capture(1, lambda: None)
    assert [graph.calls[0] for graph in captured] == [("begin", (0, 1)), ("begin", (0, 2))]
