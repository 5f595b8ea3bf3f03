"""Time of one step of a whole model: the MoE layers, attention, head, and what the engine adds.

In: a LayerModel, the GPU, the model's shape, routing, engine costs. Out: milliseconds of a decode step or of a prefill,
with a low and a high end. Terms of a layer, added up (they run one after another):

    MoE layer          harness.project.layer
    projections        attention weights read once, or their operations
    attention          keys and values read, or the operations of the prompt's triangle
    engine, a layer    norms, rotary embedding, router, top-k, KV write, launches
    engine, a sequence sampling, scheduling, detokenization
"""

from dataclasses import dataclass

from harness.project.experts import Routing
from harness.project.gpus import GpuSpec
from harness.project.layer import STREAMING_SHARE, Ceilings, LayerModel, LayerShape, combine
from harness.project.memory import ModelShape

PRODUCT_SHARE = 0.75
"""Part of the product ceiling (8192^3) that projections of a step reach: few rows, three shapes."""
ATTENTION_SHARE = 0.5
"""Part of the product ceiling that causal attention of a prompt reaches (FlashAttention's papers: .4 to .7)."""
MAX_STEP_TOKENS = 8192
"""A longer prefill is cut into steps of this many tokens, as engines do."""


@dataclass(frozen=True, slots=True)
class EngineCosts:
    """What an engine adds. `source` says which measurements it was fitted to."""

    engine: str
    layer_us: float
    sequence_us: float
    source: str


@dataclass(frozen=True, slots=True)
class Span:
    """A time with its ends: `low` is full overlap at the limit, `high` no overlap at all."""

    low_ms: float
    ms: float
    high_ms: float

    def __add__(self, other: "Span") -> "Span":
        return Span(self.low_ms + other.low_ms, self.ms + other.ms, self.high_ms + other.high_ms)

    def times(self, factor: float) -> "Span":
        return Span(self.low_ms * factor, self.ms * factor, self.high_ms * factor)


@dataclass(frozen=True, slots=True)
class StepModel:
    """One model on one GPU by one kernel and engine."""

    layer: LayerModel
    gpu: GpuSpec
    shape: ModelShape
    routing: Routing
    costs: EngineCosts
    ceilings: Ceilings

    def decode(self, batch: float, context: float) -> Span:
        """One step of `batch` sequences with `context` tokens each in their KV cache."""
        kv_bytes = batch * context * self.shape.kv_bytes_a_token / self.shape.num_layers
        return self._step(batch, attention_us=self._read_us(kv_bytes), sequences=batch)

    def prefill(self, prompt: int, sequences: float = 1) -> Span:
        """All tokens of `sequences` prompts, in steps of at most MAX_STEP_TOKENS."""
        tokens = prompt * sequences
        num_steps = max(1, -(-int(tokens) // MAX_STEP_TOKENS))
        a_step = tokens / num_steps
        flops = 2.0 * a_step * prompt * self.shape.num_heads * self.shape.head_dim  # 4 t s h d over a causal half
        rate = self.ceilings.product_tflops["bf16"] * ATTENTION_SHARE
        step = self._step(a_step, attention_us=flops / rate / 1e6, sequences=sequences / num_steps)
        return step.times(num_steps)

    def _step(self, tokens: float, *, attention_us: float, sequences: float) -> Span:
        shape, hit = self.shape, self.routing.experts_hit(tokens)
        layer_shape = LayerShape(shape.expert_weights, shape.num_experts, shape.top_k)
        moe = self.layer.predict(self.gpu, tokens, hit, shape=layer_shape, ceilings=self.ceilings)
        dense = self._dense(tokens, shape.attention_weights)
        head = self._dense(sequences, shape.vocab * shape.hidden)
        clock = self.layer.spec.boost_ghz / self.gpu.boost_ghz
        added = self.costs.layer_us * clock
        host = self.costs.sequence_us * sequences
        layers = shape.num_layers
        middle = layers * (moe.us + dense[1] + attention_us + added) + head[1] + host
        low = layers * (moe.limit_us + dense[0] + attention_us) + head[0]
        high = layers * (moe.sum_us + dense[2] + attention_us / STREAMING_SHARE + added) + head[2] + host
        return Span(min(low, middle) / 1e3, middle / 1e3, max(high, middle) / 1e3)

    def _dense(self, rows: float, weights: float) -> tuple[float, float, float]:
        """A BF16 product of `rows` rows: at the limit, as expected, without overlap."""
        memory = self._read_us(2 * weights)
        product = 2.0 * rows * weights / self.ceilings.product_tflops["bf16"] / 1e6
        expected = combine(memory / STREAMING_SHARE, product / PRODUCT_SHARE, self.layer.sharpness)
        return max(memory, product), expected, memory / STREAMING_SHARE + product / PRODUCT_SHARE

    def _read_us(self, num_bytes: float) -> float:
        return num_bytes / self.ceilings.read_gb_s / 1e3
