"""The JSON by which a checkpoint says how it is quantized, read and written.

In: config.json (and ModelOpt's hf_quant_config.json), or a Storage to announce. Out: the Storage, or the JSON
that engines look for. Sources: `QuantizationConfig` of compressed-tensors as llm-compressor saves it;
ModelOpt's unified Hugging Face export. Only experts are quantized by this package, so everything else is in
the ignore list. Targets stay ["Linear"]: vLLM asks for its fused experts under that name.

Activations: ct-nvfp4, ct-mxfp4 and modelopt-nvfp4 are announced weight-only (W4A16; ModelOpt's algorithm
W4A16_NVFP4, no input_scale) unless calibrated input scales are given, which makes NVFP4 W4A4. ct-fp8 is
announced with dynamic per-token FP8 activations (W8A8), which need no calibration.
"""

from pathlib import Path

from fp4moe.checkpoint.expected import Sizes
from fp4moe.checkpoint.shards import read_json
from fp4moe.checkpoint.storages import STORAGES, UNQUANTIZED, Storage
from fp4moe.errors import CheckpointError

HF_QUANT_CONFIG = "hf_quant_config.json"
_CT_FORMATS = {
    "nvfp4-pack-quantized": "ct-nvfp4",
    "mxfp4-pack-quantized": "ct-mxfp4",
    "float-quantized": "ct-fp8",
}
_CT_FORMAT_OF = {storage: name for name, storage in _CT_FORMATS.items()}
_MODELOPT_ALGORITHMS = ("NVFP4", "W4A16_NVFP4")
# The ModelOpt release whose layout is written; engines recognize the layout by the producer's name.
_MODELOPT_PRODUCER = {"name": "modelopt", "version": "0.47.0"}


def detect_storage(folder: Path, config: dict) -> Storage:
    """The Storage that the folder announces; CheckpointError with the value found and those allowed."""
    place, announced = folder / "config.json", config.get("quantization_config")
    if announced is None and (folder / HF_QUANT_CONFIG).is_file():
        place = folder / HF_QUANT_CONFIG
        announced = {"quant_method": "modelopt", **read_json(place).get("quantization", {})}
    if announced is None:
        return UNQUANTIZED
    method = str(announced.get("quant_method", "")).lower()
    if method == "compressed-tensors":
        return _known(_CT_FORMATS, announced.get("format"), f"{place}: quantization_config.format")
    if method.startswith("modelopt"):
        nested = announced.get("quantization", {})
        algorithm = str(announced.get("quant_algo") or nested.get("quant_algo")).upper()
        table = dict.fromkeys(_MODELOPT_ALGORITHMS, "modelopt-nvfp4")
        return _known(table, algorithm, f"{place}: quant_algo")
    raise CheckpointError(
        f"{place}: quantization_config.quant_method: must be compressed-tensors or modelopt "
        f"(got {method!r}); start from the BF16 checkpoint"
    )


def _known(table: dict[str, str], found: str | None, place: str) -> Storage:
    if found not in table:
        raise CheckpointError(f"{place}: must be one of {', '.join(table)} (got {found!r}); start from BF16")
    return STORAGES[table[found]]


def announce(storage: Storage, sizes: Sizes, has_input_scales: bool) -> tuple[dict, dict | None]:
    """(quantization_config for config.json, content of hf_quant_config.json or None)."""
    if storage.name == "modelopt-nvfp4":
        return _modelopt(sizes, has_input_scales)
    ignore = sizes.unquantized_linears()
    if storage.codes == "weight":  # a tool that sees names only cannot tell these from quantized weights
        ignore += [name.removesuffix(".weight") for name in sizes.plain_shapes()]
    group = {
        "targets": ["Linear"],
        "weights": _CT_WEIGHTS[storage.name],
        "input_activations": _CT_ACTIVATIONS.get((storage.name, has_input_scales)),
        "output_activations": None,
        "format": _CT_FORMAT_OF[storage.name],
    }
    config = {
        "quant_method": "compressed-tensors",
        "format": _CT_FORMAT_OF[storage.name],
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": sorted(set(ignore)),
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }
    return config, None


def _arguments(bits: int, strategy: str, group_size: int | None, dynamic: bool | str = False) -> dict:
    return {
        "num_bits": bits,
        "type": "float",
        "symmetric": True,
        "strategy": strategy,
        "group_size": group_size,
        "dynamic": dynamic,
    }


_CT_WEIGHTS = {
    "ct-nvfp4": _arguments(4, "tensor_group", 16),
    "ct-mxfp4": _arguments(4, "group", 32),
    "ct-fp8": _arguments(8, "channel", None),
}
_CT_ACTIVATIONS = {
    ("ct-nvfp4", True): _arguments(4, "tensor_group", 16, dynamic="local"),
    ("ct-fp8", False): _arguments(8, "token", None, dynamic=True),
}


def _modelopt(sizes: Sizes, has_input_scales: bool) -> tuple[dict, dict]:
    algorithm = "NVFP4" if has_input_scales else "W4A16_NVFP4"
    excluded = sizes.unquantized_linears()
    arguments = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    group = {"input_activations": arguments} if has_input_scales else {}
    group |= {"weights": arguments, "targets": ["Linear"]}
    config = {
        "quant_method": "modelopt",
        "quant_algo": algorithm,
        "config_groups": {"group_0": group},
        "ignore": excluded,
        "producer": _MODELOPT_PRODUCER,
    }
    legacy = {
        "producer": _MODELOPT_PRODUCER,
        "quantization": {
            "quant_algo": algorithm,
            "kv_cache_quant_algo": None,
            "group_size": 16,
            "exclude_modules": excluded,
        },
    }
    return config, legacy
