"""What `fp4moe.select` says, as plain data for plans, records and commands. Imports no torch.

In: formats, shape, a place to run. Out: dictionaries. A place is a device, attached or only named; the tools of this machine
(nvcc, Triton) are judged for its own devices alone, since another machine's are not known.
"""

from dataclasses import dataclass

from fp4moe.errors import SelectionError
from fp4moe.select import (
    COMPLETE,
    IMPLEMENTATIONS,
    Capability,
    ChoiceByTokens,
    Environment,
    MoeShape,
    choose_operations,
    explain_peers,
    find_tuned,
)
from fp4moe.select.environment import REASONS, found_tools
from fp4moe.select.table import ALL_ACTIVATIONS, ALL_WEIGHTS
from harness.record.provenance import own_sources_sha256

TOOL_NAMES = {"nvcc": "nvcc", "triton": "triton", "cc": "C compiler"}
PEER_ENGINE = "vllm-main"
BASELINE = ("bf16", "bf16")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something would run. `gpu`: the name that tuned tables are found by, None for a CPU."""

    capability: Capability
    gpu: str | None
    environment: Environment

    @classmethod
    def of(cls, capability: str, gpu: str | None, *, is_attached: bool) -> "Place":
        """From a harness.device.Device's own words."""
        environment = Environment.of_this_machine() if is_attached else COMPLETE
        return cls(Capability.parse(capability), gpu, environment)


@dataclass(frozen=True, slots=True)
class Tool:
    """What building some kernels needs: where it is here (None: nowhere), which need it, what to do without it."""

    name: str
    found: str | None
    kernels: tuple[str, ...]
    advice: str


def tools() -> list[Tool]:
    """Every tool that a row of the table needs."""
    found = found_tools()
    return [
        Tool(TOOL_NAMES[tool], found[tool], tuple(row.name for row in IMPLEMENTATIONS if tool in row.needs), reason)
        for tool, reason in REASONS.items()
    ]


def shape_of(config: dict) -> MoeShape:
    """The MoE layer of a config.json."""
    return MoeShape(
        config["hidden_size"], config["intermediate_size"], config["num_local_experts"], config["num_experts_per_tok"]
    )


def choices(
    weights: str,
    activations: str,
    *,
    shape: MoeShape,
    place: Place,
    allow_reference: bool = True,
    implementation: str | None = None,
) -> tuple[list[dict], str | None]:
    """(a row an operation, None), or (nothing, why nothing runs)."""
    try:
        chosen = choose_operations(
            weights,
            activations,
            place.capability,
            shape=shape,
            gpu=place.gpu,
            environment=place.environment,
            allow_reference=allow_reference,
            implementation=implementation_for(weights, activations, implementation),
        )
    except SelectionError as error:
        return [], str(error)
    return [choice_row(choice) for choice in chosen], None


def choice_row(choice: ChoiceByTokens) -> dict:
    """A choice as it stands in records: `chosen` takes the largest calls, `crossovers` say what smaller ones take."""
    return {
        "op": choice.op,
        "chosen": choice.chosen.name,
        "is_reference": choice.is_reference,
        "layout": choice.layout,
        "crossovers": [{"max_tokens": c.max_tokens, "name": c.choice.chosen.name} for c in choice.crossovers],
        "source": choice.source,
        "notes": list(choice.notes),
        "call_tokens": choice.call_tokens,
        "refused": [{"name": name, "reason": reason} for name, reason in choice.refused],
    }


def implementation_for(weights: str, activations: str, implementation: str | None) -> str | None:
    """The implementation that is forced for these formats.

    BF16 x BF16 is what all others are held against: where the forced one does not take it, it runs as usual.
    """
    rows = [row for row in IMPLEMENTATIONS if row.name == implementation]
    if rows and (weights, activations) == BASELINE and not any(BASELINE in row.formats() for row in rows):
        return None
    return implementation


def peer_row(weights: str, activations: str, place: Place) -> dict | None:
    """What vLLM would take for these formats, by its own rules; None where they say nothing of the format."""
    try:
        choice = explain_peers(weights, activations, place.capability, engine=PEER_ENGINE)
    except SelectionError:
        return None
    return {
        "engine": PEER_ENGINE,
        "chosen": None if choice.chosen is None else choice.chosen.name,
        "computes": None if choice.chosen is None else choice.chosen.computes,
        "refused": [{"name": name, "reason": reason} for name, reason in choice.refused],
    }


def tuned_row(weights: str, activations: str, shape: MoeShape, place: Place) -> dict | None:
    """Where the crossovers of the experts were measured, and whether a kernel of them changed since; None: never."""
    tuned = None if place.gpu is None else find_tuned(place.gpu, weights, activations, shape)
    if tuned is None:
        return None
    today = {row.name: own_sources_sha256(row) for row in IMPLEMENTATIONS if row.op == "experts"}
    is_stale = any(tuned.own_sources_sha256.get(name) != today.get(name) for _, name in tuned.crossovers)
    return {"gpu": tuned.gpu, "record": tuned.record, "is_stale": is_stale}


def implementation_rows(place: Place) -> list[dict]:
    """Every row of the table, and why it runs in no format on this device, None where it does in some."""
    return [
        {
            "op": row.op,
            "name": row.name,
            "formats": [{"weights": weights, "activations": activations} for weights, activations in row.formats()],
            "takes_all_formats": len(row.formats()) == len(ALL_WEIGHTS) * len(ALL_ACTIVATIONS),
            "device": [condition.need for condition in row.capabilities],
            "device_for": [{"activations": name, "needs": condition.need} for name, condition in row.more_for],
            "tools": list(row.needs),
            "layout": row.layout,
            "min_tokens": row.min_tokens,
            "max_tokens": row.max_tokens,
            "max_slots": row.max_slots,
            "shape": list(row.limits.needs),
            "rounds": list(row.rounds),
            "target": row.target,
            "note": row.note,
            "refused_here": _refused_everywhere(row, place),
        }
        for row in IMPLEMENTATIONS
    ]


def _refused_everywhere(row, place: Place) -> str | None:
    reasons = (condition.refusal(place.capability) for condition in row.capabilities)
    return next((reason for reason in reasons if reason), None) or place.environment.refusal(row.needs)
