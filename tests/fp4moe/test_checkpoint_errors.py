"""Bad checkpoints are refused with file, tensor, value found and what is allowed."""

import json

import pytest
import torch

from fp4moe.checkpoint import LAYOUTS, export, open_checkpoint
from fp4moe.errors import CheckpointError, FormatError
from tiny_checkpoints import EXPERT, edit_config, edit_tensors, write

NORM = "model.layers.1.input_layernorm.weight"


def refused(folder, *patterns: str) -> str:
    """Opening and validating fails with every pattern in the message."""
    with pytest.raises((CheckpointError, FormatError)) as caught:
        open_checkpoint(folder).validate()
    message = str(caught.value)
    for pattern in patterns:
        assert pattern in message, message
    return message


def test_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "no such folder", "config.json and model.safetensors")


def test_folder_without_safetensors(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    refused(tmp_path, "must hold model.safetensors", "found pytorch_model.bin", "convert the weights")


def test_missing_config(tmp_path):
    folder = write(tmp_path / "m")
    (folder / "config.json").unlink()
    refused(folder, str(folder / "config.json"), "no such file")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        pytest.param('{\n"a": }', "config.json:2: must be JSON", id="syntax"),
        pytest.param("[]", "must be a JSON object (got list)", id="list"),
    ],
)
def test_config_that_is_no_object(tmp_path, text, pattern):
    folder = write(tmp_path / "m")
    (folder / "config.json").write_text(text)
    refused(folder, pattern)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        pytest.param({"model_type": "llama"}, "model_type: must be 'mixtral' (got 'llama')", id="architecture"),
        pytest.param({"num_local_experts": None}, "num_local_experts: must be an integer of at least 1", id="missing"),
        pytest.param({"hidden_size": 0}, "hidden_size: must be an integer of at least 1 (got 0)", id="zero"),
        pytest.param({"vocab_size": "80"}, "vocab_size: must be an integer of at least 1 (got '80')", id="text"),
        pytest.param({"num_hidden_layers": True}, "num_hidden_layers: must be an integer", id="boolean"),
    ],
)
def test_config_that_decides_no_shapes(tmp_path, changes, pattern):
    refused(edit_config(write(tmp_path / "m"), **changes), "config.json", pattern)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_truncated_safetensors(tmp_path, keep):
    file = write(tmp_path / "m") / "model.safetensors"
    data = file.read_bytes()
    size = int(keep * len(data)) if isinstance(keep, float) else keep
    file.write_bytes(data[:size])
    refused(tmp_path / "m", str(file), "cut short or not safetensors", f"{size} bytes", "download it again")


def test_file_of_something_else(tmp_path):
    file = write(tmp_path / "m") / "model.safetensors"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(tmp_path / "m", str(file), "not safetensors")


def test_missing_shard(tmp_path):
    folder = write(tmp_path / "m", max_shard_bytes=100_000)
    shard = sorted(folder.glob("model-*"))[1]
    shard.unlink()
    refused(folder, str(shard), "no such file, but model.safetensors.index.json names it")


def test_shard_without_a_tensor_of_the_index(tmp_path):
    folder = write(tmp_path / "m", max_shard_bytes=100_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.extra.weight"] = index["weight_map"][NORM]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, index["weight_map"][NORM], "model.extra.weight: missing", "index.json places it here")


def test_index_without_a_map(tmp_path):
    folder = write(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text("{}")
    refused(folder, "weight_map: must map tensors to files (got None)")


def test_wrong_shapes_are_listed(tmp_path):
    def change(tensors):
        tensors[f"{EXPERT}.weight"] = torch.zeros(95, 64, dtype=torch.bfloat16)
        tensors[NORM] = torch.zeros(65, dtype=torch.bfloat16)

    message = refused(
        edit_tensors(write(tmp_path / "m"), change),
        "model.safetensors",
        f"{EXPERT}.weight: shape must be [96, 64] by config.json (got [95, 64])",
        f"{NORM}: shape must be [64] by config.json (got [65])",
    )
    assert len(message.splitlines()) == 3  # both problems and the next step


def test_many_problems_are_cut_short(tmp_path):
    refused(edit_config(write(tmp_path / "m"), hidden_size=128), "shape must be [80, 128]", "and 33 more")


def test_missing_tensor(tmp_path):
    refused(edit_tensors(write(tmp_path / "m"), lambda t: t.pop(f"{EXPERT}.weight")), f"{EXPERT}.weight: missing")


def test_more_layers_than_stored(tmp_path):
    refused(
        edit_config(write(tmp_path / "m"), num_hidden_layers=3),
        "model.layers.2.input_layernorm.weight: missing",
    )


def test_integer_weights(tmp_path):
    def change(tensors):
        tensors[f"{EXPERT}.weight"] = torch.zeros(96, 64, dtype=torch.int32)

    refused(edit_tensors(write(tmp_path / "m"), change), "dtype must be BF16 or F16 or F32 (got I32)")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", [f"{EXPERT}.weight", NORM, "model.embed_tokens.weight"])
def test_nan_and_inf_are_named(tmp_path, name, bad):
    def change(tensors):
        tensors[name].view(-1)[5] = bad

    refused(
        edit_tensors(write(tmp_path / "m"), change),
        "model.safetensors",
        name,
        f"must be finite (got {bad}",
        "1 such value",
    )


def test_reading_one_tensor_checks_it_too(tmp_path):
    def change(tensors):
        tensors[NORM][3] = torch.nan
        tensors[f"{EXPERT}.weight"] = torch.zeros(3, 3, dtype=torch.bfloat16)

    checkpoint = open_checkpoint(edit_tensors(write(tmp_path / "m"), change))
    with pytest.raises(FormatError, match=f"{NORM}: weights must be finite"):
        checkpoint.tensor(NORM)
    with pytest.raises(CheckpointError, match=r"shape must be \[96, 64\]"):
        checkpoint.expert(0, 0, "w1")
    with pytest.raises(CheckpointError, match="model.nothing: missing .*other tensors are present"):
        checkpoint.tensor("model.nothing")
    with pytest.raises(CheckpointError, match="matrix must be one of w1, w2, w3 .got 'gate'"):
        checkpoint.expert(0, 0, "gate")


@pytest.mark.parametrize(
    ("announced", "pattern"),
    [
        pytest.param({"quant_method": "gptq"}, "must be compressed-tensors or modelopt (got 'gptq')", id="method"),
        pytest.param(
            {"quant_method": "compressed-tensors", "format": "pack-quantized"},
            "nvfp4-pack-quantized, mxfp4-pack-quantized, float-quantized (got 'pack-quantized')",
            id="format",
        ),
        pytest.param(
            {"quant_method": "modelopt", "quant_algo": "FP8"},
            "must be one of NVFP4, W4A16_NVFP4 (got 'FP8')",
            id="algorithm",
        ),
    ],
)
def test_layouts_that_are_not_read(tmp_path, announced, pattern):
    refused(edit_config(write(tmp_path / "m"), quantization_config=announced), "config.json", pattern)


@pytest.mark.parametrize(
    ("layout", "suffix", "change", "pattern"),
    [
        pytest.param("ct-nvfp4", "weight_packed", lambda t: t[:, 1:], "shape must be [96, 32]", id="packed-shape"),
        pytest.param(
            "ct-nvfp4",
            "weight_scale",
            lambda t: t.float(),
            "dtype must be F8_E4M3 (got F32)",
            id="scale-dtype",
        ),
        pytest.param(
            "ct-nvfp4",
            "weight_scale",
            lambda t: (t.float() * torch.nan).to(t.dtype),
            "got nan",
            id="nan-scale",
        ),
        pytest.param(
            "ct-nvfp4",
            "weight_scale",
            lambda t: (-t.float()).to(t.dtype),
            "must be positive",
            id="negative-scale",
        ),
        pytest.param("ct-nvfp4", "weight_global_scale", lambda t: t * 0, "got 0.0, 1 such", id="zero-global-scale"),
        pytest.param("modelopt-nvfp4", "weight_scale_2", lambda t: t * torch.nan, "got nan", id="nan-scale-2"),
        pytest.param("modelopt-nvfp4", "weight", lambda t: t.to(torch.int32), "dtype must be U8 (got I32)", id="codes"),
        pytest.param("ct-mxfp4", "weight_scale", lambda t: t * 0 + 255, "got 255", id="e8m0-nan"),
        pytest.param("ct-fp8", "weight_scale", lambda t: t[:50], "shape must be [96, 1]", id="fp8-scales"),
        pytest.param("ct-fp8", "weight", lambda t: (t.float() * torch.nan).to(t.dtype), "codes finite", id="fp8-nan"),
    ],
)
def test_bad_quantized_tensors(tmp_path, layout, suffix, change, pattern):
    folder = export(write(tmp_path / "m"), tmp_path / "q", layout, "absmax")

    def apply(tensors):
        tensors[f"{EXPERT}.{suffix}"] = change(tensors[f"{EXPERT}.{suffix}"]).contiguous()

    refused(edit_tensors(folder, apply), "model.safetensors", f"{EXPERT}.{suffix}", pattern)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_parts_of_a_quantized_matrix(tmp_path, layout):
    folder = export(write(tmp_path / "m"), tmp_path / "q", layout, "absmax")
    checkpoint = open_checkpoint(folder)
    suffixes = [n.removeprefix(f"{EXPERT}.") for n in checkpoint.names() if n.startswith(f"{EXPERT}.")]
    assert len(suffixes) >= 2
    for suffix in suffixes:
        broken = export(write(tmp_path / f"m-{suffix}"), tmp_path / f"q-{suffix}", layout, "absmax")
        refused(edit_tensors(broken, lambda t, s=suffix: t.pop(f"{EXPERT}.{s}")), f"{EXPERT}")
