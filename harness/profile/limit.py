"""What a GPU could do at most with a whole workload: its prompts in one pass, then its decode steps, at given ceilings.

In: facts as harness.backends.model_facts gives them (sizes, stored bytes, experts hit by layer, ceilings). Out:
`WorkloadLimit`. Each kind of work takes what harness.profile.roofline says, one after another; nothing is added for launches,
norms, sampling.

    decode step = sum over layers of max(bytes / read, operations / product) of attention, router, experts, + head
    wall        = prompts + (output - 1) * requests / batch * decode step
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harness.profile.roofline import PROJECTIONS, times_us, work_of


@dataclass(frozen=True, slots=True)
class StepLimit:
    """One pass at the ceilings. `us` is the sum over kinds of work of the slower of the two others."""

    us: float
    read_us: float
    product_us: float

    @property
    def bound_by(self) -> str:
        """ "read" or "product": what takes the larger part."""
        return "read" if self.read_us >= self.product_us else "product"


@dataclass(frozen=True, slots=True)
class WorkloadLimit:
    """`num_requests` prompts, `batch` of them at once, `output` tokens each."""

    prompts: StepLimit
    decode: StepLimit
    batch: int
    output: int
    num_requests: int

    @property
    def output_tokens_per_s(self) -> float:
        """Tokens out over the shortest wall time, prompts included: the definition of `output_throughput`."""
        num_steps = (self.output - 1) * self.num_requests / self.batch
        return self.num_requests * self.output / (self.prompts.us + num_steps * self.decode.us) * 1e6

    @property
    def decode_ms(self) -> float:
        """The shortest time between two tokens of a request."""
        return self.decode.us / 1e3


def decode_limit(facts: dict) -> StepLimit:
    """A decode step of `facts["decode_tokens"]` requests with `facts["mean_context"]` tokens each."""
    names = ("attention", "route", "experts")
    layers = [work_of(name, facts, hit) for hit in facts["experts_hit"] for name in names]
    return _total([*layers, work_of("head", facts, None)], facts)


def prompts_limit(facts: dict, *, num_prompts: int, prompt: int, experts_hit: float) -> StepLimit:
    """All prompts in one pass, every weight read once; keys and values are written, and the head sees last tokens only."""
    tokens = num_prompts * prompt
    many = facts | {"decode_tokens": tokens}
    values = tokens * facts["kv_heads"] * facts["head_dim"]
    triangle = 2 * values * facts["kv_bytes_per_value"], 4 * tokens * (prompt / 2) * facts["heads"] * facts["head_dim"]
    layer = [work_of(name, many, experts_hit, is_apart=True) for name in (PROJECTIONS, "route", "experts")]
    head = work_of("head", facts | {"decode_tokens": num_prompts}, None)
    return _total([*[*layer, triangle] * facts["num_layers"], head], facts)


def _total(work: Iterable[tuple[float, float]], facts: dict) -> StepLimit:
    times = [times_us(num_bytes, flops, facts) for num_bytes, flops in work]
    return StepLimit(sum(map(max, times)), sum(read for read, _ in times), sum(product for _, product in times))
