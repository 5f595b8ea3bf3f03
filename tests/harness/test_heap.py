"""The garbage collector leaves what lived before alone while something is timed, and gets it back after."""

import gc
import os
import signal
import weakref

import pytest

from harness.backends.native import NativeBackend
from harness.backends.native_engine import NativeEngine
from harness.heap import frozen_heap
from harness.serve.app import Served
from harness.serve.generate import Limits
from harness.serve.run import listen, serve_until_ended
from test_native_backend import load
from test_native_workloads import measure
from tiny_checkpoint import write_tiny


class Knot:
    """Held by nobody but itself, so that only a collection ends it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(scope="module")
def backend(tmp_path_factory) -> NativeBackend:
    loaded = NativeBackend()
    load(write_tiny(tmp_path_factory.mktemp("model") / "mine"), loaded)
    return loaded


def test_what_is_given_up_inside_is_collected_after():
    kept = Knot()
    ended = weakref.ref(kept)
    with frozen_heap():
        del kept
        gc.collect()
        assert ended() is not None, "frozen: a collection inside does not look at it"
        inside = weakref.ref(Knot())
        gc.collect()
        assert inside() is None, "what is made inside is collected as ever"
    gc.collect()
    assert ended() is None
    assert gc.get_freeze_count() == 0


def test_an_error_inside_gives_the_heap_back():
    with pytest.raises(ValueError, match="inside"), frozen_heap():
        raise ValueError("inside")
    assert gc.get_freeze_count() == 0


def test_a_measured_pass_leaves_a_collection_next_to_nothing_to_walk(backend, tmp_path):
    before, walked = len(gc.get_objects()), []

    def progress(done, total, unit) -> None:
        if unit == "tokens":
            walked.append(len(gc.get_objects()))

    measure(backend, tmp_path, told=progress)
    assert walked
    assert max(walked) < before / 10
    assert gc.get_freeze_count() == 0


def test_a_server_is_ready_with_its_heap_set_aside(backend):
    frozen, before = [], len(gc.get_objects())

    def ready(url: str) -> None:
        frozen.append(gc.get_freeze_count())
        os.kill(os.getpid(), signal.SIGTERM)

    engine = NativeEngine(backend, max_slots=2, max_context=32)
    served, limits = Served("mine", {}, 32, None), Limits(2, 4, 32, 4096, frozenset())
    try:
        serve_until_ended(engine, served=served, codec=None, limits=limits, listening=listen("127.0.0.1", 0), ready=ready)
    finally:
        gc.unfreeze()
    assert frozen[0] > 0.9 * before
