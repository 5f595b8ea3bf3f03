"""What is exported is what the quantizers give, in the layout announced, and reads back bit for bit."""

import json

import pytest
import torch
from safetensors.torch import load_file

from fp4moe.checkpoint import LAYOUTS, STORAGES, export, open_checkpoint, stack_gate_up
from fp4moe.errors import CheckpointError
from fp4moe.formats import WEIGHT_FORMATS
from fp4moe.quantize import dequantize, quantize_weight
from tiny_checkpoints import (
    EXPERT,
    MATRICES,
    PLACES,
    edit_config,
    edit_tensors,
    input_amax,
    same_bytes,
    write,
)

CASES = [(layout, m) for layout in LAYOUTS for m in WEIGHT_FORMATS[STORAGES[layout].weight_format].methods]


def same_matrix(a, b) -> bool:
    parts = ("codes", "scales", "tensor_scale")
    pairs = [(getattr(a, p), getattr(b, p)) for p in parts]
    return a.format == b.format and all((x is None and y is None) or same_bytes(x, y) for x, y in pairs)


@pytest.mark.parametrize(("layout", "method"), CASES)
def test_reads_back_as_quantized(tmp_path, layout, method):
    source = open_checkpoint(write(tmp_path / "m"))
    checkpoint = open_checkpoint(export(source.path, tmp_path / "q", layout, method))
    checkpoint.validate()
    assert checkpoint.storage == layout
    format = STORAGES[layout].weight_format
    for place in PLACES:
        w1, w2, w3 = (source.raw_expert(*place, m) for m in MATRICES)
        gate_up = stack_gate_up(checkpoint.expert(*place, "w1"), checkpoint.expert(*place, "w3"))
        assert gate_up.method == method
        assert same_matrix(gate_up, quantize_weight(torch.cat([w1, w3]), format, method))
        assert same_matrix(checkpoint.expert(*place, "w2"), quantize_weight(w2, format, method))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_everything_else_is_unchanged(tmp_path, layout):
    source = open_checkpoint(write(tmp_path / "m"))
    checkpoint = open_checkpoint(export(source.path, tmp_path / "q", layout, "absmax"))
    for name in source.sizes.plain_shapes():
        assert same_bytes(checkpoint.tensor(name), source.tensor(name))


@pytest.mark.parametrize(("layout", "suffix"), [("ct-nvfp4", "weight_global_scale"), ("modelopt-nvfp4", "weight_scale_2")])
def test_gate_and_up_share_the_tensor_scale(tmp_path, layout, suffix):
    def change(tensors):
        tensors[f"{EXPERT[:-2]}w3.weight"] *= 7

    folder = export(edit_tensors(write(tmp_path / "m"), change), tmp_path / "q", layout)
    tensors = load_file(folder / "model.safetensors")
    assert tensors[f"{EXPERT[:-2]}w1.{suffix}"] == tensors[f"{EXPERT[:-2]}w3.{suffix}"]
    assert tensors[f"{EXPERT[:-2]}w1.{suffix}"] != tensors[f"{EXPERT[:-2]}w2.{suffix}"]


@pytest.mark.parametrize(
    ("layout", "stored"),
    [
        pytest.param(
            "ct-nvfp4",
            {
                "weight_packed": ("uint8", (96, 32)),
                "weight_scale": ("float8_e4m3fn", (96, 4)),
                "weight_global_scale": ("float32", (1,)),
            },
            id="ct-nvfp4",
        ),
        pytest.param(
            "modelopt-nvfp4",
            {
                "weight": ("uint8", (96, 32)),
                "weight_scale": ("float8_e4m3fn", (96, 4)),
                "weight_scale_2": ("float32", ()),
            },
            id="modelopt-nvfp4",
        ),
        pytest.param(
            "ct-mxfp4",
            {"weight_packed": ("uint8", (96, 32)), "weight_scale": ("uint8", (96, 2))},
            id="ct-mxfp4",
        ),
        pytest.param(
            "ct-fp8",
            {"weight": ("float8_e4m3fn", (96, 64)), "weight_scale": ("float32", (96, 1))},
            id="ct-fp8",
        ),
    ],
)
def test_names_dtypes_and_shapes_on_disk(tmp_path, layout, stored):
    tensors = load_file(export(write(tmp_path / "m"), tmp_path / "q", layout) / "model.safetensors")
    found = {n.removeprefix(f"{EXPERT}."): t for n, t in tensors.items() if n.startswith(f"{EXPERT}.")}
    assert {n: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for n, t in found.items()} == stored


def test_global_scale_is_the_reciprocal_and_scale_2_is_not(tmp_path):
    source = write(tmp_path / "m")
    ct = load_file(export(source, tmp_path / "ct", "ct-nvfp4") / "model.safetensors")
    mo = load_file(export(source, tmp_path / "mo", "modelopt-nvfp4") / "model.safetensors")
    amax = max(open_checkpoint(source).raw_expert(0, 0, m).abs().max() for m in ("w1", "w3"))
    assert mo[f"{EXPERT}.weight_scale_2"] == pytest.approx(float(amax) / 2688, rel=2**-22)
    assert ct[f"{EXPERT}.weight_global_scale"] == pytest.approx(2688 / float(amax), rel=2**-22)


@pytest.mark.parametrize(("first", "second"), [("ct-nvfp4", "modelopt-nvfp4"), ("modelopt-nvfp4", "ct-nvfp4")])
def test_layouts_convert_into_each_other_bit_for_bit(tmp_path, first, second):
    source = write(tmp_path / "m")
    one = export(source, tmp_path / "one", first, "four_six")
    two = open_checkpoint(export(one, tmp_path / "two", second))
    assert two.sha256() == open_checkpoint(export(source, tmp_path / "direct", second, "four_six")).sha256()
    assert two.expert(0, 0, "w1").method == "four_six"
    back = open_checkpoint(export(two.path, tmp_path / "back", first))
    assert back.sha256() == open_checkpoint(one).sha256()


def test_export_is_deterministic_and_sharding_does_not_show(tmp_path):
    source = write(tmp_path / "m", max_shard_bytes=50_000)
    calls = []
    one = export(source, tmp_path / "one", "ct-nvfp4", progress=lambda *c: calls.append(c))
    two = export(source, tmp_path / "two", "ct-nvfp4", max_shard_bytes=20_000)
    assert calls == [(1, 2), (2, 2)]
    assert open_checkpoint(one).sha256() == open_checkpoint(two).sha256()
    shards = sorted(p.name for p in two.glob("*.safetensors"))
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    index = json.loads((two / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == shards
    assert index["metadata"]["total_size"] == sum(t.nbytes for s in shards for t in load_file(two / s).values())
    assert not (one / "model.safetensors.index.json").exists()


def test_tokenizer_is_copied_and_weights_are_not(tmp_path):
    source = write(tmp_path / "m")
    for name in (
        "tokenizer.json",
        "tokenizer.model",
        "chat_template.jinja",
        "pytorch_model.bin",
        "hf_quant_config.json",
    ):
        (source / name).write_text("{}")
    edit_config(source, quantization_config=None)
    (source / "hf_quant_config.json").unlink()
    out = export(source, tmp_path / "q", "ct-nvfp4")
    names = {p.name for p in out.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer.model",
        "chat_template.jinja",
    }


def test_source_dtype_is_not_rounded_before_quantizing(tmp_path):
    def convert(tensors):
        generator = torch.Generator().manual_seed(3)
        for name, tensor in tensors.items():
            tensors[name] = tensor.float() * (1 + 2**-10 * torch.rand(tensor.shape, generator=generator))

    source = edit_tensors(write(tmp_path / "m"), convert)
    q = open_checkpoint(export(source, tmp_path / "q", "ct-nvfp4")).expert(0, 0, "w2")
    w2 = open_checkpoint(source).raw_expert(0, 0, "w2")
    assert w2.dtype == torch.float32 and same_matrix(q, quantize_weight(w2, "nvfp4"))


@pytest.mark.parametrize("layout", ["ct-nvfp4", "modelopt-nvfp4"])
def test_calibrated_input_scales_make_it_w4a4(tmp_path, layout):
    checkpoint = open_checkpoint(export(write(tmp_path / "m"), tmp_path / "q", layout, input_amax=input_amax()))
    checkpoint.validate()
    amax = input_amax()
    shared = max(amax[EXPERT], amax[f"{EXPERT[:-2]}w3"])  # gate and up read the same input
    assert checkpoint.input_scale(0, 0, "w1") == checkpoint.input_scale(0, 0, "w3")
    assert checkpoint.input_scale(0, 0, "w1") == pytest.approx(shared / 2688, rel=2**-22)
    assert checkpoint.input_scale(0, 0, "w2") == pytest.approx(amax[f"{EXPERT[:-2]}w2"] / 2688, rel=2**-22)
    quantization = checkpoint.config["quantization_config"]
    assert quantization["config_groups"]["group_0"]["input_activations"]["num_bits"] == 4
    if layout == "modelopt-nvfp4":
        assert quantization["quant_algo"] == "NVFP4"


@pytest.mark.parametrize(("first", "second"), [("ct-nvfp4", "modelopt-nvfp4"), ("modelopt-nvfp4", "ct-nvfp4")])
def test_input_scales_survive_a_change_of_layout(tmp_path, first, second):
    one = open_checkpoint(export(write(tmp_path / "m"), tmp_path / "one", first, input_amax=input_amax()))
    two = open_checkpoint(export(one.path, tmp_path / "two", second))
    for place in PLACES:
        for matrix in MATRICES:
            before, after = one.input_scale(*place, matrix), two.input_scale(*place, matrix)
            assert after == pytest.approx(before, rel=2**-22)
    group = two.config["quantization_config"]["config_groups"]["group_0"]
    assert group["input_activations"]["num_bits"] == 4


def test_an_unquantized_expert_in_a_quantized_checkpoint_is_read_but_not_laid_out_anew(tmp_path):
    folder = export(write(tmp_path / "m"), tmp_path / "q", "ct-nvfp4")
    weight = open_checkpoint(tmp_path / "m").raw_expert(0, 0, "w1")

    def change(tensors):
        for suffix in ("weight_packed", "weight_scale", "weight_global_scale"):
            del tensors[f"{EXPERT}.{suffix}"]
        tensors[f"{EXPERT}.weight"] = weight

    checkpoint = open_checkpoint(edit_tensors(folder, change))
    checkpoint.validate()
    assert same_bytes(checkpoint.expert(0, 0, "w1").codes, weight)
    with pytest.raises(CheckpointError, match="experts.0.w1: is bf16 in a checkpoint of nvfp4"):
        export(folder, tmp_path / "again", "modelopt-nvfp4")


def test_weight_only_export_has_no_input_scales(tmp_path):
    checkpoint = open_checkpoint(export(write(tmp_path / "m"), tmp_path / "q", "modelopt-nvfp4"))
    assert checkpoint.input_scale(0, 0, "w1") is None
    assert not [n for n in checkpoint.names() if "input_scale" in n]
    assert "input_activations" not in checkpoint.config["quantization_config"]["config_groups"]["group_0"]


def test_modelopt_is_announced_twice(tmp_path):
    out = export(write(tmp_path / "m"), tmp_path / "q", "modelopt-nvfp4")
    legacy = json.loads((out / "hf_quant_config.json").read_text())["quantization"]
    config = json.loads((out / "config.json").read_text())["quantization_config"]
    assert legacy["quant_algo"] == config["quant_algo"] == "W4A16_NVFP4"
    assert legacy["group_size"] == 16 and legacy["kv_cache_quant_algo"] is None
    assert legacy["exclude_modules"] == config["ignore"]
    edit_config(out, quantization_config=None)  # older exports have the file alone
    assert open_checkpoint(out).storage == "modelopt-nvfp4"
    open_checkpoint(out).validate()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_quantized_is_ignored_by_name(tmp_path, layout):
    checkpoint = open_checkpoint(export(write(tmp_path / "m"), tmp_path / "q", layout, "absmax"))
    ignored = checkpoint.config["quantization_config"]["ignore"]
    assert {"lm_head", "model.layers.1.self_attn.o_proj", "model.layers.0.block_sparse_moe.gate"} <= set(ignored)
    assert not [name for name in ignored if "experts" in name]


def test_attention_quantized_by_others_is_read_as_bf16(tmp_path):
    """A checkpoint with quantized attention, as llm-compressor makes unless told otherwise."""
    folder = export(write(tmp_path / "m"), tmp_path / "q", "ct-nvfp4")
    module = "model.layers.1.self_attn.k_proj"
    q = quantize_weight(open_checkpoint(folder).tensor(f"{module}.weight"), "nvfp4")

    def change(tensors):
        del tensors[f"{module}.weight"]
        tensors.update({f"{module}.{suffix}": t for suffix, t in STORAGES["ct-nvfp4"].store(q).items()})

    checkpoint = open_checkpoint(edit_tensors(folder, change))
    checkpoint.validate()
    assert torch.equal(checkpoint.tensor(f"{module}.weight"), dequantize(q, torch.bfloat16))


def test_zero_block_scales_of_others_become_zero_codes(tmp_path):
    folder = export(write(tmp_path / "m"), tmp_path / "q", "modelopt-nvfp4")

    def change(tensors):
        scales = tensors[f"{EXPERT}.weight_scale"].float()
        scales[3, 2] = 0
        tensors[f"{EXPERT}.weight_scale"] = scales.to(torch.float8_e4m3fn)

    before = open_checkpoint(folder).expert(0, 0, "w1")
    after = open_checkpoint(edit_tensors(folder, change)).expert(0, 0, "w1")
    expected = dequantize(before)
    expected[3, 32:48] = 0
    assert torch.equal(dequantize(after), expected) and (after.scales.float() > 0).all()


@pytest.mark.parametrize("scale_dtype", [torch.bfloat16, torch.float16])
def test_fp8_scales_of_others_may_be_narrow_or_one_a_tensor(tmp_path, scale_dtype):
    folder = export(write(tmp_path / "m"), tmp_path / "q", "ct-fp8")
    codes = open_checkpoint(folder).expert(0, 0, "w1").codes

    def change(tensors):
        tensors[f"{EXPERT}.weight_scale"] = torch.tensor([0.25], dtype=scale_dtype)

    q = open_checkpoint(edit_tensors(folder, change)).expert(0, 0, "w1")
    assert q.scales.shape == (96, 1) and torch.equal(dequantize(q), codes.float() * 0.25)


def test_methods_of_others_are_called_imported(tmp_path):
    folder = edit_tensors(export(write(tmp_path / "m"), tmp_path / "q", "ct-mxfp4"), lambda tensors: None)  # drops metadata
    assert open_checkpoint(folder).expert(0, 0, "w1").method == "imported"
    again = export(folder, tmp_path / "again", "ct-mxfp4")
    assert open_checkpoint(again).expert(0, 0, "w1").method == "imported"
