"""Ids and labels of precisions, and what the tables refuse."""

import pytest

from fp4moe.errors import FormatError
from fp4moe.precision import Precision, all_precisions, parse_precision


@pytest.mark.parametrize(
    ("precision", "identifier", "label"),
    [
        pytest.param(Precision(), "nvfp4-search-a16", "NVFP4 x BF16 (search)", id="default"),
        pytest.param(Precision("bf16"), "bf16-a16", "BF16 x BF16", id="no-method"),
        pytest.param(Precision("nvfp4", "absmax", "fp8"), "nvfp4-absmax-a8", "NVFP4 x FP8 (absmax)", id="w4a8"),
        pytest.param(Precision("nvfp4", "search", "nvfp4"), "nvfp4-search-a4", "NVFP4 x NVFP4 (search)", id="w4a4"),
        pytest.param(
            Precision("nvfp4", "search", "mxfp4"),
            "nvfp4-search-a4-mxfp4",
            "NVFP4 x MXFP4 (search)",
            id="families-differ",
        ),
        pytest.param(Precision("mxfp4", None, "mxfp4"), "mxfp4-search-a4", "MXFP4 x MXFP4 (search)", id="mxfp4"),
        pytest.param(Precision("fp8", None, "fp8"), "fp8-absmax-a8", "FP8 x FP8 (absmax)", id="fp8"),
        pytest.param(Precision("nvfp4", "search", "fp32"), "nvfp4-search-a32", "NVFP4 x FP32 (search)", id="checks"),
        pytest.param(
            Precision("nvfp4", "imported"),
            "nvfp4-imported-a16",
            "NVFP4 x BF16 (imported)",
            id="from-another-tool",
        ),
    ],
)
def test_id_and_label(precision, identifier, label):
    assert (precision.id, precision.label) == (identifier, label)
    assert parse_precision(identifier) == precision


def test_ids_are_unique():
    identifiers = [p.id for p in all_precisions()]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("fp5",), "weight format 'fp5': unknown; allowed: bf16", id="weights"),
        pytest.param(("nvfp4", "magic"), "one of absmax, four_six, search.*got 'magic'", id="method"),
        pytest.param(("bf16", "search"), "method of bf16 must be one of none", id="method-of-bf16"),
        pytest.param(("nvfp4", "search", "int3"), "activation format 'int3': unknown", id="activations"),
    ],
)
def test_what_the_tables_lack_is_refused(arguments, message):
    with pytest.raises(FormatError, match=message):
        Precision(*arguments)


def test_unknown_id_shows_examples():
    with pytest.raises(FormatError, match="'w4a16': unknown; write WEIGHTS-METHOD-aBITS, such as nvfp4-search-a16"):
        parse_precision("w4a16")
