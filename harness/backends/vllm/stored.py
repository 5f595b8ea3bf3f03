"""A model as it is stored, without loading it: its configuration and the bytes of its weights in a precision.

Stands where code that also serves our loaded models asks for `config` and `memory_bytes()`.
"""

from dataclasses import dataclass

from fp4moe.precision import Precision
from fp4moe.runtime import MixtralConfig, predict_memory_bytes


@dataclass(frozen=True, slots=True)
class StoredModel:
    """Sizes alone."""

    config: MixtralConfig
    precision: Precision

    def memory_bytes(self) -> dict[str, int]:
        """Bytes of the weights by cause, the KV cache left out."""
        predicted = predict_memory_bytes(self.config, self.precision, max_slots=1, max_context=2)
        return {name: size for name, size in predicted.items() if name != "kv_cache"}
