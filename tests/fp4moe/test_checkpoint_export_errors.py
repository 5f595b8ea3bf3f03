"""What cannot be exported is refused with its reason, and nothing half written stays."""

import pytest
import torch

from fp4moe.checkpoint import export
from fp4moe.errors import CheckpointError, FormatError
from tiny_checkpoints import EXPERT, edit_tensors, input_amax, write


def nothing_written(tmp_path, source, *arguments, pattern: str, **options):
    before = sorted(tmp_path.iterdir())
    with pytest.raises((CheckpointError, FormatError), match=pattern):
        export(source, tmp_path / "out", *arguments, **options)
    assert sorted(tmp_path.iterdir()) == before


def test_export_that_fails_half_way_leaves_nothing(tmp_path):
    def change(tensors):
        tensors["model.layers.1.block_sparse_moe.experts.3.w2.weight"][0, 0] = torch.nan

    source = edit_tensors(write(tmp_path / "m"), change)
    nothing_written(
        tmp_path,
        source,
        "ct-nvfp4",
        pattern="experts.3.w2.weight: weights must be finite",
        max_shard_bytes=9999,
    )


def test_export_of_a_missing_checkpoint(tmp_path):
    nothing_written(tmp_path, tmp_path / "nowhere", "ct-nvfp4", pattern="no such folder")


def test_export_where_K_is_not_a_multiple_of_the_block(tmp_path):
    source = write(tmp_path / "m", intermediate_size=40)
    nothing_written(
        tmp_path,
        source,
        "ct-nvfp4",
        pattern="experts.0.w2.weight: K must be a positive multiple of 16 for nvfp4 .*K = 40",
    )


@pytest.mark.parametrize(
    ("arguments", "options", "pattern"),
    [
        pytest.param(("gguf",), {}, "layout must be one of modelopt-nvfp4, ct-nvfp4", id="layout"),
        pytest.param(("ct-mxfp4", "four_six"), {}, "method of mxfp4 must be one of absmax, search", id="method"),
        pytest.param(("ct-mxfp4",), {"input_amax": {}}, "ct-mxfp4 has no input scales", id="no-input-scales"),
        pytest.param(
            ("ct-nvfp4",),
            {"input_amax": {EXPERT: 1.0}},
            "must be positive .got None.*every expert",
            id="half",
        ),
        pytest.param(
            ("ct-nvfp4",),
            {"input_amax": input_amax() | {EXPERT: 0.0}},
            "must be positive .got 0.0",
            id="zero-amax",
        ),
    ],
)
def test_export_refuses_what_it_cannot_write(tmp_path, arguments, options, pattern):
    nothing_written(tmp_path, write(tmp_path / "m"), *arguments, pattern=pattern, **options)


def test_export_never_overwrites(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    nothing_written(tmp_path, write(tmp_path / "m"), "ct-nvfp4", pattern="must not exist or be an empty folder")
    assert (tmp_path / "out" / "notes").read_text() == "mine"


def test_requantizing_is_refused(tmp_path):
    source = export(write(tmp_path / "m"), tmp_path / "q", "ct-nvfp4")
    nothing_written(tmp_path, source, "ct-mxfp4", pattern="is stored as nvfp4, would lose again as mxfp4; start from BF16")
    nothing_written(tmp_path, source, "modelopt-nvfp4", "search", pattern="quantized already, method must be left out")
