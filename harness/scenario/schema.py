"""The scenario's schema: pydantic models at the YAML edge, unknown keys refused.

In: plain data from YAML. Out: `Scenario`. Rules that need the checkpoint or the machine (does the prompt fit the
context, is the GPU here) are `harness.plan`'s. `scenarios/schema.json` is generated from this file.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from harness.implementations import NAMES
from harness.precisions import ACTIVATIONS, METHODS, Precision
from harness.scenario.arrival import ArrivalSpec
from harness.scenario.backends import BackendSpec, NativeBackendSpec, backend_problems
from harness.scenario.gates import GateSpec
from harness.scenario.lengths import OutputLength, PromptLength
from harness.scenario.lengths import bounds as length_bounds
from harness.scenario.positions import Positions, show_path
from harness.scenario.source import TRACES, SharedPrefixSpec, SloSpec, SourceSpec, TextSource

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
TARGETS = ("any", "cpu", "A100", "H100", "H200", "L40S", "RTX 4090", "RTX 5090", "B200")
HELDOUT = "heldout"
MAX_TIMEOUT_S = 604_800
KNOWN_MODELS = ("pocket-mixtral", "mixtral-8x7b")


def _expand(value: Any, *, key: str) -> Any:
    """Turn the strings in a list into one-key mappings; anything else passes on to be judged by the schema."""
    return [{key: item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value


class Spec(BaseModel):
    """Base of every part of a scenario: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSpec(Spec):
    """A model: one that the harness knows by name, or any Mixtral-architecture checkpoint by path."""

    name: Name = Field(description="pocket-mixtral, mixtral-8x7b, or a name of your own together with `path`")
    path: str | None = Field(None, min_length=1, description="Checkpoint folder, relative to the scenario file")
    weights: Literal["auto", "trained", "random"] = Field(
        "auto", description="auto: trained where a checkpoint is there, else random (speed and memory only)"
    )
    targets: list[Literal[TARGETS]] | None = Field(None, min_length=1, description="Overrides the scenario's targets")

    @model_validator(mode="after")
    def _known_or_path(self):
        if self.path is None and self.name not in KNOWN_MODELS:
            raise ValueError(f"needs `path`, or a known name ({', '.join(KNOWN_MODELS)})")
        return self


class PrecisionSpec(Spec):
    """A precision of the expert products: weight format, quantization method, activation format."""

    weights: Literal[tuple(METHODS)]
    method: str | None = Field(None, description="How weights are quantized; default: the format's best")
    activations: Literal[ACTIVATIONS] = "bf16"

    @model_validator(mode="after")
    def _method_fits(self):
        if self.method is not None and self.method not in METHODS[self.weights]:
            allowed = ", ".join(METHODS[self.weights])
            raise ValueError(f"method {self.method!r} is not one of {self.weights}'s (allowed: {allowed})")
        return self


class SamplingSpec(Spec):
    """How the next token is chosen; temperature 0 is greedy."""

    temperature: float = Field(0.0, ge=0.0, le=10.0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0.0, le=1.0)


class WorkloadSpec(Spec):
    """Requests: where their prompts come from, how long they are, and when they arrive."""

    name: Name
    source: SourceSpec = TextSource()
    prompt_tokens: PromptLength | None = Field(None, description="A number or a distribution; a trace brings its own")
    output_tokens: OutputLength | None = Field(
        None, description="As prompt_tokens; at least 2, so that a time per output token exists"
    )
    shared_prefix: SharedPrefixSpec | None = None
    num_requests: int = Field(gt=0, le=1_000_000, description="Of a trace: at most so many")
    arrival: ArrivalSpec
    sampling: SamplingSpec = SamplingSpec()
    warmup_requests: int | None = Field(None, ge=0, description="Default: 2 x concurrency, at most num_requests")
    slo: SloSpec | None = None
    routing: str | None = Field(
        None,
        min_length=1,
        description="Experts imposed on random weights: uniform, zipf, zipf:S, hot70 or recorded:FILE; needs a GPU",
    )
    max_failed_pct: float = Field(1.0, ge=0, le=100, description="More failed requests than this make the record INVALID")

    @model_validator(mode="after")
    def _parts_fit(self):
        is_text, is_trace = self.source.kind == "text", self.source.kind in TRACES
        for key in ("prompt_tokens", "output_tokens"):
            if is_text and getattr(self, key) is None:
                raise ValueError(f"{key} is required, and missing: only a trace or conversations bring lengths of their own")
        if self.source.kind == "sharegpt" and self.prompt_tokens is not None:
            raise ValueError("prompt_tokens cannot be set beside sharegpt: its prompts are whole; remove it")
        if self.output_tokens is not None and length_bounds(self.output_tokens)[0] < 2:
            raise ValueError("output_tokens must be at least 2 in every draw, so that a time per output token exists")
        if self.arrival.kind == "trace" and not is_trace:
            raise ValueError(f"arrival kind 'trace' needs a `source` with times (allowed: {', '.join(TRACES)})")
        if self.arrival.kind == "sweep" and self.slo is None:
            raise ValueError("arrival kind 'sweep' needs `slo`: it looks for the highest rate that meets it")
        return self


class QualitySpec(Spec):
    """Perplexity and divergence from BF16 on the model's held-out text."""

    window_tokens: int = Field(512, ge=16, description="Context restarts at each window")
    max_tokens: int = Field(65_536, gt=0, description="Windows are spread evenly over the text up to this many tokens")
    kl_tokens: int = Field(8_192, gt=0, description="Tokens over which the full distribution is compared to BF16's")
    batch_windows: int = Field(8, gt=0, le=256)


class KernelSpec(Spec):
    """Limits on which implementations may be selected."""

    allow_reference: bool = Field(True, description="Whether the slow plain-torch implementation may be measured")
    implementation: Literal[NAMES] | None = Field(
        None,
        description="Force this one (see `harness kernels list`); cells that it cannot run are dropped with the reason. "
        "BF16 x BF16, which others are held against, runs as usual where it does not take BF16",
    )


class LimitSpec(Spec):
    """When to give up on a worker: seconds without a sign of life."""

    load_timeout_s: float = Field(900.0, ge=1, le=MAX_TIMEOUT_S)
    cell_timeout_s: float = Field(900.0, ge=1, le=MAX_TIMEOUT_S)


class ClaimSpec(Spec):
    """Something claimed, as checks that `harness claims` and the report hold against what is known (docs/claims.md)."""

    name: Name = Field("claim", description="Short name, as C2")
    says: str = Field("", max_length=2000, description="The claim in its own words")
    checks: list[str] = Field(min_length=1, description="As 'throughput >= 1850 tokens/s on RTX 5090'; all must hold")
    note: str = Field("", max_length=4000)

    @field_validator("checks")
    @classmethod
    def _checks_parse(cls, value: list[str]) -> list[str]:
        from harness.claims.grammar import parse_check
        from harness.errors import ScenarioError

        for text in value:
            try:
                parse_check(text, "")
            except ScenarioError as error:
                raise ValueError(error.problems[0].removeprefix(": ")) from None
        return value


class Scenario(Spec):
    """A whole scenario; see the README for an example."""

    name: Name
    description: str = ""
    models: list[ModelSpec] = Field(min_length=1)
    targets: list[Literal[TARGETS]] = Field(["any"], min_length=1)
    backends: list[BackendSpec] = Field([NativeBackendSpec(kind="native")], min_length=1)
    precisions: list[PrecisionSpec] = Field(min_length=1)
    workloads: list[WorkloadSpec] = []
    quality: QualitySpec | None = None
    kernels: KernelSpec = KernelSpec()
    limits: LimitSpec = LimitSpec()
    gates: GateSpec | None = None
    repeats: int = Field(3, ge=1, le=30)
    cpu_threads: int = Field(
        1, ge=1, le=1024, description="Threads of a worker on a CPU; 1 is fastest for small models, and the steadiest"
    )
    telemetry_rate_hz: float = Field(
        10.0, ge=0.1, le=100.0, description="How often clocks, power, utilisation and memory are read beside a measurement"
    )
    seed: int = Field(0, ge=0, lt=2**31)
    claims: list[ClaimSpec] = Field([], description="Short form: a check by itself")
    _positions: Positions | None = PrivateAttr(None)

    def with_positions(self, positions: Positions) -> "Scenario":
        """The same scenario, which now knows the lines of its file."""
        self._positions = positions
        return self

    def place(self, *path: str | int) -> str:
        """How an error names a value: `file:line: key.path`; the key path alone where no file was read."""
        shown = show_path(path)
        return f"{self._positions.place(path)}: {shown}" if self._positions else shown

    @field_validator("models", mode="before")
    @classmethod
    def _model_by_name(cls, value: Any) -> Any:
        """`- pocket-mixtral` stands for `- {name: pocket-mixtral}`."""
        return _expand(value, key="name")

    @field_validator("backends", mode="before")
    @classmethod
    def _backend_by_kind(cls, value: Any) -> Any:
        """`- vllm` stands for `- {kind: vllm}`."""
        return _expand(value, key="kind")

    @field_validator("precisions", mode="before")
    @classmethod
    def _precision_by_weights(cls, value: Any) -> Any:
        """`- nvfp4` stands for `- {weights: nvfp4}`."""
        return _expand(value, key="weights")

    @field_validator("claims", mode="before")
    @classmethod
    def _claim_by_check(cls, value: Any) -> Any:
        """`- throughput >= 1850 on RTX 5090` stands for `- {name: claim-1, checks: [...]}`."""
        if not isinstance(value, list):
            return value
        return [{"name": f"claim-{n}", "checks": [c]} if isinstance(c, str) else c for n, c in enumerate(value, start=1)]

    @model_validator(mode="after")
    def _something_to_measure(self):
        if not self.workloads and self.quality is None:
            raise ValueError("nothing to measure: give at least one of `workloads` and `quality`")
        for key, names in (
            ("models", [m.name for m in self.models]),
            ("workloads", [w.name for w in self.workloads]),
            ("backends", [b.name for b in self.backends]),
        ):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{key}: name {repeated[0]!r} is used twice; records are told apart by name")
        if any(w.name == HELDOUT for w in self.workloads):
            raise ValueError(f"workloads: the name {HELDOUT!r} belongs to the quality measurement; choose another")
        return self

    @model_validator(mode="after")
    def _backends_fit(self):
        precisions = [Precision(p.weights, p.method or METHODS[p.weights][0], p.activations).id for p in self.precisions]
        problems = backend_problems(self.backends, [m.name for m in self.models], precisions)
        if problems:
            raise ValueError(problems[0])
        return self
