"""The shape of a Mixtral model.

In: a Hugging Face `config.json` (transformers 4 and 5 spell `rope_theta` in different places). Out: a frozen
`MixtralConfig`. Source: `transformers.MixtralConfig`. Anything this runtime does not compute (sliding
windows, scaled rotary embeddings, another activation function) is refused here, by name, instead of giving
wrong logits later. Reads no weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fp4moe.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class MixtralConfig:
    """Sizes of one Mixtral-architecture decoder; every linear layer is without bias."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_experts: int
    top_k: int
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False
    max_positions: int = 32768
    bos_token_id: int | None = 1
    eos_token_ids: tuple[int, ...] = (2,)

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "max_positions"):
            if getattr(self, name) < 1:
                raise CheckpointError(f"config: {name}: must be at least 1 (got {getattr(self, name)})")
        if self.num_heads % self.num_kv_heads:
            raise CheckpointError(
                f"config: num_heads: must be a multiple of num_kv_heads={self.num_kv_heads} (got {self.num_heads})"
            )
        if self.head_dim % 2:
            raise CheckpointError(f"config: head_dim: must be even for rotary embeddings (got {self.head_dim})")
        if not 1 <= self.top_k <= self.num_experts <= 256:
            raise CheckpointError(
                "config: top_k and num_experts: must satisfy 1 <= top_k <= num_experts <= 256 "
                f"(got {self.top_k} and {self.num_experts})"
            )

    @classmethod
    def from_json(cls, path: Path | str) -> MixtralConfig:
        """Read `config.json`, or the one inside a checkpoint folder; raises CheckpointError."""
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; a checkpoint folder holds config.json beside its weights")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{path}:{error.lineno}: must be JSON ({error.msg})") from error
        return cls.from_dict(raw, place=str(path))

    @classmethod
    def from_dict(cls, raw: dict[str, Any], place: str = "config") -> MixtralConfig:
        """Parse the keys that transformers writes; `place` is how errors name the source."""
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        _refuse_unsupported(raw, rope, place)
        try:
            num_heads = raw["num_attention_heads"]
            return cls(
                vocab_size=raw["vocab_size"],
                hidden_size=raw["hidden_size"],
                intermediate_size=raw["intermediate_size"],
                num_layers=raw["num_hidden_layers"],
                num_heads=num_heads,
                num_kv_heads=raw.get("num_key_value_heads") or num_heads,
                head_dim=raw.get("head_dim") or raw["hidden_size"] // num_heads,
                num_experts=raw["num_local_experts"],
                top_k=raw["num_experts_per_tok"],
                rope_theta=float(rope.get("rope_theta") or raw.get("rope_theta") or 1e6),
                rms_norm_eps=float(raw.get("rms_norm_eps", 1e-5)),
                tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
                max_positions=raw.get("max_position_embeddings", 32768),
                bos_token_id=raw.get("bos_token_id"),
                eos_token_ids=_as_tuple(raw.get("eos_token_id")),
            )
        except KeyError as error:
            raise CheckpointError(f"{place}: {error.args[0]}: missing; a Mixtral config.json has it") from error


def _refuse_unsupported(raw: dict[str, Any], rope: dict[str, Any], place: str) -> None:
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    expected = (
        ("model_type", raw.get("model_type", "mixtral"), "mixtral"),
        ("hidden_act", raw.get("hidden_act", "silu"), "silu"),
        ("sliding_window", raw.get("sliding_window"), None),
        ("rope_type", rope_type, "default"),
    )
    for key, found, supported in expected:
        if found != supported:
            raise CheckpointError(
                f"{place}: {key}: must be {supported!r} (got {found!r}); this runtime computes plain Mixtral decoders only"
            )


def _as_tuple(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


MIXTRAL_8X7B = MixtralConfig(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=14336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    num_experts=8,
    top_k=2,
    rope_theta=1e6,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    max_positions=32768,
)
