"""Where a workload's prompts and lengths come from: the model's held-out text, a recorded trace, or conversations.

Files of traces hold times and lengths, no text; the prompts are then made from the held-out text. Formats:
Mooncake jsonl (timestamp in ms, input_length, output_length, hash_ids of 512 tokens), Azure csv (TIMESTAMP,
ContextTokens, GeneratedTokens), BurstGPT csv (Timestamp in s, Request tokens, Response tokens, ...), ShareGPT json.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

TRACES = ("mooncake", "azure", "burstgpt")


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TextSource(_Source):
    """Windows of the model's held-out text at seeded places; random tokens where the model has no text."""

    kind: Literal["text"] = "text"


class TraceSource(_Source):
    """A recorded trace: lengths, times for `arrival: {kind: trace}`, shared blocks of prompts (Mooncake)."""

    kind: Literal[TRACES]
    path: str = Field(min_length=1, description="The file, relative to the scenario file")
    start_s: float = Field(0.0, ge=0, allow_inf_nan=False, description="Rows before this time of the trace are left out")
    duration_s: float | None = Field(None, gt=0, allow_inf_nan=False, description="Rows after start_s + duration_s too")
    max_prompt_tokens: int | None = Field(None, gt=0, description="Longer prompts are cut to this, and counted")
    max_output_tokens: int | None = Field(None, gt=0, description="Longer answers are cut to this, and counted")


class ShareGptSource(_Source):
    """Conversations: the first turn is the prompt, the length of the second is asked for. Needs the model's tokenizer."""

    kind: Literal["sharegpt"]
    path: str = Field(min_length=1, description="The file, relative to the scenario file")
    max_prompt_tokens: int = Field(1024, gt=0, description="Conversations with a longer prompt are left out")
    max_output_tokens: int = Field(1024, gt=1, description="Longer answers are cut to this")


SourceSpec = Annotated[TextSource | TraceSource | ShareGptSource, Field(discriminator="kind")]


class SharedPrefixSpec(_Source):
    """Tokens put in front of every prompt, the same for many: what prefix caches live on."""

    tokens: int = Field(gt=0, description="Length of a prefix; comes on top of prompt_tokens")
    num_prefixes: int = Field(1, gt=0, le=100_000, description="Different prefixes; each request takes one")
    zipf_exponent: float = Field(0.0, ge=0, le=10, description="0: all equally likely; above, the first ones more often")


class SloSpec(_Source):
    """Limits of one request's latency, and the share of requests that must keep them."""

    ttft_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    tpot_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    e2el_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    attainment_pct: float = Field(99.0, gt=0, le=100, description="Of all planned requests; failed ones do not attain")

    @model_validator(mode="after")
    def _has_a_limit(self):
        if self.ttft_ms is None and self.tpot_ms is None and self.e2el_ms is None:
            raise ValueError("needs at least one of ttft_ms, tpot_ms and e2el_ms")
        return self
