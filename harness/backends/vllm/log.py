"""What vLLM decided, read from its log: attention and MoE backends, those passed over and why, KV cache, load times.

In: lines as vLLM 0.24 and 0.32 write them (vllm/platforms/cuda.py, fused_moe/oracle/*.py, v1/core/kv_cache_utils.py). Out:
plain data. A line that no pattern knows is left alone; what was not found is None, never guessed.
"""

import re
from dataclasses import asdict, dataclass

_ATTENTION = (
    re.compile(
        r"Using (?:AttentionBackendEnum\.)?'?(?P<name>\w+)'? attention backend(?: out of potential backends: \[(?P<all>.*?)\])?"
    ),
    re.compile(
        r"\[(?:[^\]]*/)?(?:cuda|rocm|cpu|xpu)\.py[^\]]*\] Using (?:AttentionBackendEnum\.)?(?P<name>\w+)(?P<all>) backend\b"
    ),
)
_MOE = re.compile(
    r"Using '?(?P<name>[\w-]+)'? (?:(?P<format>\w+) )?MoE backend(?: out of potential backends: \[(?P<all>.*?)\])?"
)
_REFUSED = re.compile(
    r"(?P<format>\w+) MoE backend '?(?P<name>[\w-]+)'? does not support the deployment configuration"
    r"(?: since (?P<why>.*?))?\.?$"
)
_NOT_VALID = re.compile(r"attention backends are not valid for .*?Reasons: \{(?P<all>.*)\}")
_ONE_REASON = re.compile(r"(?P<name>\w+): \[(?P<why>[^\]]*)\]")
_KV = re.compile(r"(?:GPU|CPU) KV cache size: (?P<tokens>[\d,]+) tokens")
_MEMORY = re.compile(r"Model loading took (?P<gib>[\d.]+) ?GiB(?: memory)? and (?P<s>[\d.]+) seconds")
_GRAPHS = re.compile(r"Graph capturing finished in (?P<s>[\d.]+) secs?, took (?P<gib>[\d.]+) GiB")
_VERSION = re.compile(r"Initializing a V1 LLM engine \(v(?P<version>[^)]+)\)")


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend that was chosen, its candidates in vLLM's order, those passed over with vLLM's reason."""

    chosen: str
    candidates: tuple[str, ...] = ()
    passed_over: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Decisions:
    """Everything that the log told; None where it did not."""

    version: str | None
    attention: Choice | None
    moe: Choice | None
    kv_cache_tokens: int | None
    weights_gib: float | None
    graphs_gib: float | None

    def as_data(self) -> dict:
        return asdict(self)


def read_log(text: str) -> Decisions:
    """The first answer to each question: later lines come from further engines of the same process."""
    lines = text.splitlines()
    return Decisions(
        version=_first(lines, _VERSION, "version"),
        attention=_attention(lines),
        moe=_moe(lines),
        kv_cache_tokens=_number(_first(lines, _KV, "tokens"), int),
        weights_gib=_number(_first(lines, _MEMORY, "gib"), float),
        graphs_gib=_number(_first(lines, _GRAPHS, "gib"), float),
    )


def _attention(lines: list[str]) -> Choice | None:
    for pattern in _ATTENTION:
        found = next((match for match in map(pattern.search, lines) if match), None)
        if found is not None:
            invalid = next((match["all"] for match in map(_NOT_VALID.search, lines) if match), "")
            passed_over = tuple((m["name"], m["why"]) for m in _ONE_REASON.finditer(invalid))
            return Choice(found["name"], _names(found["all"]), passed_over)
    return None


def _moe(lines: list[str]) -> Choice | None:
    """The line with candidates says most; a refusal of the chosen one (another of its kernels was taken) is left out."""
    found = [match for match in map(_MOE.search, lines) if match]
    if not found:
        return None
    best = next((match for match in found if match["all"]), found[0])
    refused = {m["name"]: m["why"] or "no reason given" for m in map(_REFUSED.search, lines) if m}
    passed_over = tuple((name, why) for name, why in refused.items() if name != best["name"])
    return Choice(best["name"], _names(best["all"]), passed_over)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip().strip("'\"") for part in (text or "").split(",") if part.strip())


def _first(lines: list[str], pattern: re.Pattern, group: str) -> str | None:
    return next((match[group] for match in map(pattern.search, lines) if match), None)


def _number(text: str | None, kind: type):
    return None if text is None else kind(text.replace(",", ""))
