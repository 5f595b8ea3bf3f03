"""What a model will take, from its shape alone.

In: config, precision, slots, context. Out: bytes by cause, the keys of `MixtralModel.memory_bytes()` and
`kv_cache`. Equal to what loading then holds (tested), for BF16 sources and for checkpoints that share gate
and up's tensor scale, where the experts stay stored rows. A packed layout has the same codes and scales and may add padding,
which is not predicted; what is held then is measured. Activations and the allocator's own overhead are not in it; see peak.py.
"""

from __future__ import annotations

from math import prod

from fp4moe.formats import WeightFormat, weight_format
from fp4moe.layouts import codes_shape, scales_shape
from fp4moe.precision import Precision
from fp4moe.runtime import names
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.kv_cache import kv_cache_shape, kv_torch_dtype

_BF16_BYTES = 2
_FP32_BYTES = 4


def predict_memory_bytes(
    config: MixtralConfig, precision: Precision, *, max_slots: int, max_context: int, kv_dtype: str = "bf16"
) -> dict[str, int]:
    """Bytes by cause; loads and allocates nothing."""
    fmt = weight_format(precision.weights)
    experts = config.num_layers * config.num_experts

    def dense(*tensor_names: str) -> int:
        return sum(prod(names.tensor_shape(config, name)) for name in tensor_names) * _BF16_BYTES

    heads = () if config.tie_word_embeddings else (names.HEAD,)
    attention = dense(names.QUERY, names.KEY, names.VALUE, names.OUTPUT)
    return {
        **{f"expert_{part}": experts * num_bytes for part, num_bytes in _expert_bytes(config, fmt).items()},
        "attention": config.num_layers * attention,
        "embedding": dense(names.EMBEDDING, *heads),
        "router": config.num_layers * dense(names.ROUTER),
        "norm": config.num_layers * dense(names.ATTENTION_NORM, names.MOE_NORM) + dense(names.FINAL_NORM),
        "kv_cache": prod(kv_cache_shape(config, max_slots, max_context)) * kv_torch_dtype(kv_dtype).itemsize,
    }


def _expert_bytes(config: MixtralConfig, fmt: WeightFormat) -> dict[str, int]:
    """One expert: gate and up as one matrix [2F, D], down [D, F]."""
    matrices = [(2 * config.intermediate_size, config.hidden_size), names.expert_shape(config, "w2")]
    scale_shapes = [scales_shape(shape, fmt) for shape in matrices]
    return {
        "codes": sum(prod(codes_shape(shape, fmt)) for shape in matrices) * fmt.code_dtype.itemsize,
        "scales": sum(prod(shape) * fmt.scale_dtype.itemsize for shape in scale_shapes if shape is not None),
        "tensor_scales": _FP32_BYTES * len(matrices) if fmt.has_tensor_scale else 0,
    }
