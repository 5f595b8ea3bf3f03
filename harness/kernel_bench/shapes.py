"""The shape of one MoE layer, and what a machine without a GPU refuses to run.

In: "mixtral-8x7b", "pocket-mixtral" or a checkpoint's folder or config.json. Out: `LayerShape`. Reads a config at most.

Shapes: D hidden, F intermediate, E experts, K experts a token.
"""

from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

MODELS = ("mixtral-8x7b", "pocket-mixtral")
CPU_MAX_WEIGHTS = 50_000_000
"""Weights of a layer up to which the reference on a CPU takes milliseconds to seconds a call."""
CPU_FEW_TOKENS = 4


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Gate and up are [E, 2F, D], down is [E, D, F]."""

    model: str
    hidden: int
    intermediate: int
    num_experts: int
    top_k: int

    @property
    def sizes(self):
        """The four sizes as harness.backends.moe_layer takes them."""
        from harness.backends.moe_layer import Sizes

        return Sizes(self.hidden, self.intermediate, self.num_experts, self.top_k)

    @property
    def expert_weights(self) -> int:
        """Weights of one expert: gate, up and down."""
        return 3 * self.hidden * self.intermediate

    @property
    def num_weights(self) -> int:
        """Weights of the layer."""
        return self.num_experts * self.expert_weights

    def flops(self, tokens: int) -> float:
        """Multiplications and additions of both products, all slots."""
        return 2.0 * tokens * self.top_k * self.expert_weights


MIXTRAL_8X7B = LayerShape("mixtral-8x7b", 4096, 14336, 8, 2)


def layer_shape(model: str) -> LayerShape:
    """The layer of a named model or of a checkpoint; UsageError naming what is allowed."""
    if model == MIXTRAL_8X7B.model:
        return MIXTRAL_8X7B
    from harness.backends.moe_layer import pocket_folder, sizes_of

    path = pocket_folder() if model == "pocket-mixtral" else Path(model)
    if not path.exists():
        allowed = f"{', '.join(MODELS)}, or the path of a Mixtral checkpoint"
        raise UsageError(f"--model: must be one of {allowed} (got {model!r}, and no such path is there)")
    return LayerShape(model, *sizes_of(path))


def refuse_on_cpu(shape: LayerShape, kernels: tuple[str, ...], tokens: tuple[int, ...]) -> None:
    """UsageError where a CPU would take hours: only the reference runs there, and it dequantizes every expert hit."""
    if shape.num_weights <= CPU_MAX_WEIGHTS:
        return
    if kernels == ("reference",) and max(tokens) <= CPU_FEW_TOKENS:
        return
    gigabytes = shape.num_weights * 4.5 / 8 / 1e9
    float_gigabytes = shape.expert_weights * 4 / 1e9
    raise UsageError(
        f"--model {shape.model}: one layer has {shape.num_weights / 1e9:.2f} billion weights ({gigabytes:.1f} GB a copy in "
        f"NVFP4, {float_gigabytes:.1f} GB of float32 an expert); this machine has no GPU, and the plain-torch reference "
        f"would take seconds to minutes a call. Use --model pocket-mixtral, or --kernel reference with --tokens of at most "
        f"{CPU_FEW_TOKENS} (a few minutes in all), or run this on a GPU"
    )
