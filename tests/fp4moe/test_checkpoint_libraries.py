"""Other tools read what is exported, and get the same numbers.

compressed-tensors is a test dependency and runs its own unpacking and conversion over whole exported folders.
ModelOpt (nvidia-modelopt 0.47) imports only with its own dependencies, so its test is skipped where it is not
installed; the layout it reads is also decoded here independently, with ml_dtypes, by the rule in its
`NVFP4QTensor.dequantize`: low nibble first, value = E2M1 * (E4M3 block scale * weight_scale_2).
"""

import json

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fp4moe.checkpoint import export, open_checkpoint
from fp4moe.pack import unpack_nibbles
from fp4moe.quantize import dequantize
from tiny_checkpoints import EXPERT, MATRICES, PLACES, edit_tensors, input_amax, same_bytes, write

CT_LAYOUTS = ["ct-nvfp4", "ct-mxfp4", "ct-fp8"]


@pytest.mark.parametrize("layout", CT_LAYOUTS)
def test_compressed_tensors_accepts_the_quantization_config(tmp_path, layout):
    from compressed_tensors.compressors.format import infer_module_format
    from compressed_tensors.quantization import QuantizationConfig

    out = export(write(tmp_path / "m"), tmp_path / "q", layout, "absmax")
    announced = json.loads((out / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(announced)
    scheme = config.config_groups["group_0"]
    assert infer_module_format(torch.nn.Linear, scheme).value == config.format == announced["format"]


def test_compressed_tensors_preset_is_what_is_announced(tmp_path):
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme

    presets = {"ct-nvfp4": "NVFP4A16", "ct-mxfp4": "MXFP4A16", "ct-fp8": "FP8_DYNAMIC"}
    for layout, preset in presets.items():
        out = export(write(tmp_path / layout), tmp_path / f"{layout}-q", layout, "absmax")
        announced = json.loads((out / "config.json").read_text())["quantization_config"]
        ours = QuantizationConfig.model_validate(announced).config_groups["group_0"]
        theirs = preset_name_to_scheme(preset, ["Linear"])
        for part in ("weights", "input_activations"):
            for key in ("num_bits", "type", "symmetric", "strategy", "group_size", "dynamic"):
                assert getattr(getattr(ours, part), key, None) == getattr(getattr(theirs, part), key, None)


@pytest.mark.parametrize("layout", ["ct-nvfp4", "ct-mxfp4"])
def test_compressed_tensors_unpacks_the_same_elements(tmp_path, layout):
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8

    from fp4moe.formats import decode_table

    tensors = load_file(export(write(tmp_path / "m"), tmp_path / "q", layout) / "model.safetensors")
    packed = tensors[f"{EXPERT}.weight_packed"]
    theirs = unpack_fp4_from_uint8(packed, 96, 64, dtype=torch.float32)
    ours = decode_table("e2m1")[unpack_nibbles(packed).int()]
    assert torch.equal(theirs, ours) and torch.equal(theirs.signbit(), ours.signbit())


@pytest.mark.parametrize("layout", CT_LAYOUTS)
def test_compressed_tensors_dequantizes_the_folder_to_the_same_bf16(tmp_path, layout):
    """Its own converter, driven by the exported config.json: names, targets, ignore list and numbers at once.

    BF16 is what it unpacks to. NVFP4's tensor scale is made a power of two, for which its order of
    multiplication, element * (scale / global scale), rounds as ours does; the next test has all tensor
    scales.
    """
    from compressed_tensors.entrypoints.convert import convert_checkpoint
    from compressed_tensors.entrypoints.convert.converters.ct_dequantizer import CompressedTensorsDequantizer

    def set_amax(tensors):
        for name, tensor in tensors.items():
            if "experts" in name:
                tensor.clamp_(-2688 * 2.0**-16, 2688 * 2.0**-16)[0, 0] = 2688 * 2.0**-16

    source = edit_tensors(write(tmp_path / "m"), set_amax)
    exported = open_checkpoint(export(source, tmp_path / "q", layout))
    convert_checkpoint(exported.path, tmp_path / "d", CompressedTensorsDequantizer(exported.path), device="cpu")
    converted = open_checkpoint(tmp_path / "d")
    converted.validate()
    assert converted.storage == "bf16"
    for place in PLACES:
        for matrix in MATRICES:
            ours = dequantize(exported.expert(*place, matrix), torch.bfloat16)
            assert torch.equal(converted.raw_expert(*place, matrix), ours)
    for name in exported.sizes.plain_shapes():
        assert same_bytes(converted.tensor(name), exported.tensor(name))


def test_compressed_tensors_decompresses_any_tensor_scale_within_float32_rounding(tmp_path):
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.quantization.lifecycle.forward import dequantize as ct_dequantize

    exported = open_checkpoint(export(write(tmp_path / "m"), tmp_path / "q", "ct-nvfp4"))
    scheme = QuantizationConfig.model_validate(exported.config["quantization_config"]).config_groups["group_0"]
    tensors = load_file(exported.path / "model.safetensors")
    packed = tensors[f"{EXPERT}.weight_packed"]
    elements = torch.from_numpy(unpack_nibbles(packed).numpy().view(ml_dtypes.float4_e2m1fn).astype(np.float32))
    theirs = ct_dequantize(
        x_q=elements,
        scale=tensors[f"{EXPERT}.weight_scale"].float(),
        args=scheme.weights,
        global_scale=tensors[f"{EXPERT}.weight_global_scale"],
        dtype=torch.float32,
    )
    ours = dequantize(exported.expert(0, 0, "w1"))
    # Theirs rounds scale / global_scale and then the product, ours the reciprocal, the product: 4 half units.
    assert torch.allclose(theirs, ours, rtol=2**-22, atol=0)


@pytest.mark.filterwarnings("ignore")
def test_compressed_tensors_converts_our_modelopt_export_into_our_own(tmp_path):
    """Its ModelOpt converter asks for input scales, so this is the W4A4 form of both layouts."""
    from compressed_tensors.entrypoints.convert import convert_checkpoint
    from compressed_tensors.entrypoints.convert.converters.modelopt_nvfp4 import ModelOptNvfp4Converter

    source = write(tmp_path / "m")
    modelopt = export(source, tmp_path / "mo", "modelopt-nvfp4", input_amax=input_amax())
    ours = load_file(export(source, tmp_path / "ct", "ct-nvfp4", input_amax=input_amax()) / "model.safetensors")
    converter = ModelOptNvfp4Converter(targets=[r"re:.*experts.*w[123]$"])
    convert_checkpoint(modelopt, tmp_path / "converted", converter, device="cpu")
    theirs = load_file(tmp_path / "converted" / "model.safetensors")
    assert set(theirs) == set(ours)
    for name, tensor in ours.items():
        assert same_bytes(theirs[name].reshape(tensor.shape), tensor), name
    open_checkpoint(tmp_path / "converted").validate()  # and what the library writes is read here


def test_compressed_tensors_quantizes_what_is_read_here(tmp_path):
    """The other direction: bytes made by its compressor from its own scales."""
    from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
    from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme

    scheme = preset_name_to_scheme("NVFP4A16", ["Linear"])
    folder = export(write(tmp_path / "m"), tmp_path / "q", "ct-nvfp4", "absmax")
    weight = open_checkpoint(tmp_path / "m").raw_expert(0, 0, "w1").float()
    global_scale = (2688 / weight.abs().max()).reshape(1)
    scale = (weight.unflatten(-1, (-1, 16)).abs().amax(-1) / 6 * global_scale).to(torch.float8_e4m3fn)
    state = {"weight": weight, "weight_scale": scale.float(), "weight_global_scale": global_scale}
    compressed = NVFP4PackedCompressor.compress(state, scheme)

    def change(tensors):
        tensors.update({f"{EXPERT}.{k}": v.contiguous() for k, v in compressed.items()})

    q = open_checkpoint(edit_tensors(folder, change)).expert(0, 0, "w1")
    assert torch.equal(q.codes, compressed["weight_packed"])
    error = (dequantize(q) - weight).norm() / weight.norm()
    assert error == pytest.approx(0.095, abs=0.004)  # 6144 Gaussian weights, absmax


def modelopt_rule(tensors: dict[str, torch.Tensor], module: str) -> np.ndarray:
    packed = tensors[f"{module}.weight"].numpy()
    codes = np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(len(packed), -1)
    values = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    scales = tensors[f"{module}.weight_scale"].view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn)
    block_scale = scales.astype(np.float32) * tensors[f"{module}.weight_scale_2"].numpy()
    return (values.reshape(*scales.shape, 16) * block_scale[..., None]).reshape(values.shape)


def test_modelopt_layout_by_its_documented_rule(tmp_path):
    exported = open_checkpoint(export(write(tmp_path / "m"), tmp_path / "q", "modelopt-nvfp4"))
    tensors = load_file(exported.path / "model.safetensors")
    ours = dequantize(exported.expert(0, 0, "w1")).numpy()
    # It rounds scale * weight_scale_2 and then the product, ours the product alone: three half units.
    np.testing.assert_allclose(modelopt_rule(tensors, EXPERT), ours, rtol=2**-22, atol=0)


@pytest.mark.filterwarnings("ignore")
def test_modelopt_dequantizes_the_same(tmp_path):
    pytest.importorskip("modelopt.torch.quantization", reason="nvidia-modelopt is not installed", exc_type=ImportError)
    from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor

    exported = open_checkpoint(export(write(tmp_path / "m"), tmp_path / "q", "modelopt-nvfp4", "absmax"))
    tensors = load_file(exported.path / "model.safetensors")
    stored = NVFP4QTensor(torch.Size((96, 64)), torch.float32, tensors[f"{EXPERT}.weight"])
    theirs = stored.dequantize(
        dtype=torch.float32,
        scale=tensors[f"{EXPERT}.weight_scale"],
        double_scale=tensors[f"{EXPERT}.weight_scale_2"],
        block_sizes={-1: 16},
    )
    assert np.array_equal(theirs.numpy(), modelopt_rule(tensors, EXPERT))
    w2 = open_checkpoint(tmp_path / "m").raw_expert(0, 0, "w2").float()
    packed, scale, _ = NVFP4QTensor.quantize(w2, 16)
    module = f"{EXPERT[:-2]}w2"
    same = (packed._quantized_data == tensors[f"{module}.weight"]).float().mean()
    assert same > 0.99  # its order of division differs, which moves ties and a rare E4M3 scale
    assert (scale.float() == tensors[f"{module}.weight_scale"].float()).float().mean() > 0.99
