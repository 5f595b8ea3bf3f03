"""Recorded routing: ids of every token and layer, kept in order."""

import numpy as np
import torch

from fp4moe.runtime import RoutingRecorder


def ids(*rows):
    return torch.tensor(rows)


def record(recorder, phase, step, layers, requests=None):
    recorder.begin_step(phase, len(layers[0]), step, requests=requests)
    for layer, ids_TK in enumerate(layers):
        recorder.record(layer, ids_TK)


def test_arrays_hold_ids_by_token_and_layer():
    recorder = RoutingRecorder(num_layers=2)
    record(
        recorder,
        "prefill",
        0,
        [ids([1, 0], [3, 2], [255, 1]), ids([0, 1], [0, 2], [0, 3])],
        requests=[4, 4, 4],
    )
    record(recorder, "decode", 1, [ids([2, 3]), ids([3, 1])], requests=[7])
    arrays = recorder.arrays()
    assert arrays["expert_ids"].tolist() == [
        [[1, 0], [0, 1]],
        [[3, 2], [0, 2]],
        [[255, 1], [0, 3]],
        [[2, 3], [3, 1]],
    ]
    assert arrays["step"].tolist() == [0, 0, 0, 1]
    assert arrays["phase"].tolist() == [0, 0, 0, 1]
    assert arrays["request"].tolist() == [4, 4, 4, 7]
    dtypes = {name: array.dtype for name, array in arrays.items()}
    assert dtypes == {"expert_ids": np.uint8, "step": np.int32, "phase": np.uint8, "request": np.int32}


def test_reading_does_not_end_the_recording():
    recorder = RoutingRecorder(num_layers=1)
    record(recorder, "score", 0, [ids([1])])
    first = recorder.arrays()
    record(recorder, "score", 1, [ids([2])])
    assert first["expert_ids"].tolist() == [[[1]]] and first["request"].tolist() == [-1]
    assert recorder.arrays()["expert_ids"].tolist() == [[[1]], [[2]]]


def test_a_step_that_did_not_reach_the_last_layer_is_left_out():
    recorder = RoutingRecorder(num_layers=2)
    recorder.begin_step("decode", 1, 0)
    recorder.record(0, ids([1]))
    record(recorder, "decode", 1, [ids([2]), ids([3])])
    assert recorder.arrays()["step"].tolist() == [1]


def test_nothing_recorded_gives_empty_arrays():
    arrays = RoutingRecorder(num_layers=3).arrays()
    assert {name: len(array) for name, array in arrays.items()} == dict.fromkeys(arrays, 0)


def test_histogram_is_by_layer():
    recorder = RoutingRecorder(num_layers=2)
    record(recorder, "score", 0, [ids([1, 0], [1, 2]), ids([3, 2], [3, 2])])
    assert recorder.histogram(4).tolist() == [[1, 2, 1, 0], [0, 0, 2, 2]]


def test_a_whole_step_on_the_host_is_added_as_it_is():
    recorder = RoutingRecorder(num_layers=2)
    record(recorder, "prefill", 0, [ids([1, 0]), ids([0, 1])], requests=[3])
    step = np.array([[[2, 3], [3, 1]], [[1, 0], [255, 2]]])
    recorder.add_step("decode", 5, step, requests=np.array([4, 9]))
    step[:] = 0  # the recorder has its own
    arrays = recorder.arrays()
    assert arrays["expert_ids"].tolist() == [[[1, 0], [0, 1]], [[2, 3], [3, 1]], [[1, 0], [255, 2]]]
    assert arrays["step"].tolist() == [0, 5, 5] and arrays["phase"].tolist() == [0, 1, 1]
    assert arrays["request"].tolist() == [3, 4, 9] and recorder.num_steps == 2
    assert arrays["expert_ids"].dtype == np.uint8 and arrays["request"].dtype == np.int32
