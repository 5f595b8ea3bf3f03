"""How many tokens a prompt or an answer has: a number, or a distribution that is drawn from with the scenario's seed."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PositiveInt, Tag, model_validator

MAX_TOKENS = 2**20


class _Length(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class UniformLength(_Length):
    """Every whole number from `low` to `high`, both included, equally likely."""

    kind: Literal["uniform"]
    low: int = Field(gt=0)
    high: int = Field(gt=0, le=MAX_TOKENS)

    @model_validator(mode="after")
    def _in_order(self):
        if self.low > self.high:
            raise ValueError(f"low must be at most high (got {self.low} and {self.high})")
        return self


class LognormalLength(_Length):
    """Logarithm normal with the given median; draws outside low and high are moved to them."""

    kind: Literal["lognormal"]
    median: float = Field(gt=0, allow_inf_nan=False)
    sigma: float = Field(gt=0, le=10, allow_inf_nan=False, description="Standard deviation of the logarithm")
    low: int = Field(1, gt=0)
    high: int = Field(gt=0, le=MAX_TOKENS)

    @model_validator(mode="after")
    def _in_order(self):
        if not self.low <= self.median <= self.high:
            raise ValueError(f"median must lie between low and high (got {self.median:g}, {self.low} and {self.high})")
        return self


class ZipfLength(_Length):
    """Probability of the k-th number from `low` proportional to 1 / k ** exponent, up to `high`."""

    kind: Literal["zipf"]
    exponent: float = Field(gt=0, le=10, allow_inf_nan=False)
    low: int = Field(1, gt=0)
    high: int = Field(gt=0, le=MAX_TOKENS)

    @model_validator(mode="after")
    def _in_order(self):
        if self.low > self.high:
            raise ValueError(f"low must be at most high (got {self.low} and {self.high})")
        return self


class EmpiricalLength(_Length):
    """One of the given numbers, with the given weights or equally likely."""

    kind: Literal["empirical"]
    tokens: list[Annotated[int, Field(gt=0, le=MAX_TOKENS)]] = Field(min_length=1, max_length=100_000)
    weights: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None

    @model_validator(mode="after")
    def _weights_fit(self):
        if self.weights is not None and len(self.weights) != len(self.tokens):
            raise ValueError(f"weights must be as many as tokens ({len(self.weights)} and {len(self.tokens)})")
        if self.weights is not None and sum(self.weights) == 0:
            raise ValueError("weights must not all be 0")
        return self


_KINDS = {"uniform": UniformLength, "lognormal": LognormalLength, "zipf": ZipfLength, "empirical": EmpiricalLength}


def _tag(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind in _KINDS else ("number" if kind is None and not isinstance(value, dict) else "unknown")


_Distribution = (
    Annotated[UniformLength, Tag("uniform")]
    | Annotated[LognormalLength, Tag("lognormal")]
    | Annotated[ZipfLength, Tag("zipf")]
    | Annotated[EmpiricalLength, Tag("empirical")]
)
_DISCRIMINATOR = Discriminator(
    _tag,
    custom_error_type="length_kind",
    custom_error_message="must be a number of tokens, or have `kind` uniform, lognormal, zipf or empirical",
)
Distribution = UniformLength | LognormalLength | ZipfLength | EmpiricalLength
PromptLength = Annotated[Annotated[PositiveInt, Tag("number")] | _Distribution, _DISCRIMINATOR]
OutputLength = Annotated[Annotated[int, Field(gt=1), Tag("number")] | _Distribution, _DISCRIMINATOR]


def bounds(length: int | Distribution) -> tuple[int, int]:
    """(fewest, most) tokens that can be drawn."""
    if isinstance(length, int):
        return length, length
    if length.kind == "empirical":
        return min(length.tokens), max(length.tokens)
    return length.low, length.high
