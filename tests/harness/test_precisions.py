"""The torch-free names of precisions are those of fp4moe, ids and labels included."""

import pytest

from fp4moe import precision as runtime
from fp4moe.formats import ACTIVATION_FORMATS, WEIGHT_FORMATS
from harness.precisions import ACTIVATIONS, METHODS, Precision


def test_weight_formats_and_methods_are_the_runtimes():
    assert set(METHODS) == set(WEIGHT_FORMATS)
    for name, methods in METHODS.items():
        assert set(methods) == set(WEIGHT_FORMATS[name].methods), name
        assert methods[0] == WEIGHT_FORMATS[name].default_method, name


def test_activation_formats_are_the_runtimes():
    assert set(ACTIVATIONS) == set(ACTIVATION_FORMATS)


@pytest.mark.parametrize("weights", METHODS)
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_ids_and_labels_agree(weights, activations):
    for method in METHODS[weights]:
        ours, theirs = (
            Precision(weights, method, activations),
            runtime.Precision(weights, method, activations),
        )
        assert (ours.id, ours.label) == (theirs.id, theirs.label)
