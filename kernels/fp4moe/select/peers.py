"""What vLLM would take for an FP4 MoE layer on a device, and why not the others.

In: weight and activation format, capability, vLLM version. Out: `PeerChoice`. The rules are those of vLLM's
selection lists (`fused_moe/oracle/nvfp4.py`, `oracle/mxfp4.py`) and of each backend's device and scheme
checks, for a gated SiLU MLP without expert parallelism, every optional package installed. Read in source, not
run here: vLLM may fall back later by shape. "vllm-main" was read in 2026 after 0.24.0, where humming joined
the list.

The failure that this answers: vLLM 0.15.0 accepted capability family 100 only; 120 // 10 = 12 is another
family, so an sm_120 GPU was told "kernel does not support current device" (vLLM issue 33416). 0.15.1 added
the family (pull request 33417).
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4moe.errors import SelectionError
from fp4moe.select.capability import Capability
from fp4moe.select.conditions import AnyCuda, AnyOf, AtLeast, Condition, Family, Never, OlderThan, OneOf

ENGINES = ("vllm-0.15.0", "vllm-0.15.1", "vllm-0.24.0", "vllm-main")
LATEST = ENGINES[-1]
_FROM_0_15_1 = ENGINES[1:]
_FROM_0_24 = ENGINES[2:]
_MAIN = (LATEST,)


@dataclass(frozen=True, slots=True)
class Peer:
    """One backend of another engine. `computes` is what runs, which may be less than was asked for."""

    name: str
    weights: str
    activations: tuple[str, ...]
    capabilities: tuple[Condition, ...]
    computes: str
    engines: tuple[str, ...] = ENGINES


_BLACKWELL = AnyOf((Family("sm_100"), Family("sm_120")))
_BLACKWELL_110 = AnyOf((Family("sm_100"), Family("sm_110"), Family("sm_120")))
_W4A4 = "NVFP4 x NVFP4"
_W4A16 = "NVFP4 x BF16, weight-only"
_MX_W4A16 = "MXFP4 x BF16, weight-only"
_GPT_OSS_ONLY = (Never("the clamped SwiGLU of gpt-oss, a Mixtral expert has SiLU"),)

# Order is vLLM's order of preference within a weight format.
PEERS: tuple[Peer, ...] = (
    Peer("flashinfer-trtllm", "nvfp4", ("nvfp4",), (Family("sm_100"),), _W4A4),
    Peer("flashinfer-cutedsl", "nvfp4", ("nvfp4",), (Family("sm_100"),), _W4A4),
    Peer("flashinfer-cutlass", "nvfp4", ("nvfp4",), (Family("sm_100"),), _W4A4, ("vllm-0.15.0",)),
    Peer("flashinfer-cutlass", "nvfp4", ("nvfp4",), (_BLACKWELL,), _W4A4, _FROM_0_15_1),
    Peer("vllm-cutlass", "nvfp4", ("nvfp4",), (Family("sm_100"),), _W4A4, ("vllm-0.15.0",)),
    Peer("vllm-cutlass", "nvfp4", ("nvfp4",), (_BLACKWELL_110,), _W4A4, _FROM_0_15_1),
    Peer("marlin", "nvfp4", ("bf16", "nvfp4"), (AtLeast("sm_75"),), _W4A16),
    Peer("humming", "nvfp4", ("bf16", "nvfp4"), (AtLeast("sm_75"),), _W4A16, _MAIN),
    Peer(
        "emulation",
        "nvfp4",
        ("nvfp4",),
        (AnyCuda(),),
        "NVFP4 x NVFP4, dequantized before BF16 products",
        _FROM_0_24,
    ),
    Peer("flashinfer-trtllm", "mxfp4", ("bf16",), _GPT_OSS_ONLY, _MX_W4A16, _MAIN),
    Peer("triton-kernels", "mxfp4", ("bf16",), _GPT_OSS_ONLY, _MX_W4A16, _MAIN),
    Peer("flashinfer-cutlass", "mxfp4", ("bf16",), (OneOf(("sm_90",)),), _MX_W4A16, _MAIN),
    Peer(
        "triton-kernels-unfused",
        "mxfp4",
        ("bf16",),
        (AtLeast("sm_90"), OlderThan("sm_110")),
        _MX_W4A16,
        _MAIN,
    ),
    Peer("marlin", "mxfp4", ("bf16",), (AtLeast("sm_75"),), _MX_W4A16, _MAIN),
)


@dataclass(frozen=True, slots=True)
class PeerChoice:
    """`chosen` None: the engine refuses. `refused`: (name, reason) of the others, in the engine's order.

    `would_run`: what else runs here, which an engine that was given a backend by name does not say.
    """

    engine: str
    chosen: Peer | None
    refused: tuple[tuple[str, str], ...]
    would_run: tuple[str, ...] = ()


def explain_peers(
    weights: str,
    activations: str,
    capability: Capability,
    *,
    engine: str = LATEST,
    backend: str | None = None,
) -> PeerChoice:
    """The first backend that supports the deployment; with `backend`, that one or none, as when named.

    Raises SelectionError for an engine, format or backend that the table has no rules for.
    """
    if engine not in ENGINES:
        raise SelectionError(f"engine: must be one of {', '.join(ENGINES)} (got {engine!r})")
    listed = [peer for peer in PEERS if peer.weights == weights and engine in peer.engines]
    if not listed:
        known = sorted({peer.weights for peer in PEERS if engine in peer.engines})
        raise SelectionError(f"peers: {engine} has rules for {', '.join(known)} here, none for {weights}")
    reasons = {peer.name: _refusal(peer, activations, capability) for peer in listed}
    running = [peer for peer in listed if reasons[peer.name] is None]
    if backend is not None:
        return _explain_named(engine, backend, running, reasons)
    chosen = running[0] if running else None
    refused = tuple(
        (name, reason or f"runs here, but {chosen.name} comes first")
        for name, reason in reasons.items()
        if chosen is None or name != chosen.name
    )
    return PeerChoice(engine, chosen, refused, tuple(peer.name for peer in running[1:]))


def _explain_named(engine: str, backend: str, running: list[Peer], reasons: dict[str, str | None]) -> PeerChoice:
    if backend not in reasons:
        raise SelectionError(f"backend: must be one of {', '.join(reasons)} for {engine} (got {backend!r})")
    chosen = next((peer for peer in running if peer.name == backend), None)
    reason = reasons[backend]
    would_run = tuple(peer.name for peer in running if peer.name != backend)
    return PeerChoice(engine, chosen, () if reason is None else ((backend, reason),), would_run)


def _refusal(peer: Peer, activations: str, capability: Capability) -> str | None:
    if activations not in peer.activations:
        return f"takes activations in {' or '.join(peer.activations)}, not {activations}"
    reasons = (condition.refusal(capability) for condition in peer.capabilities)
    return next((reason for reason in reasons if reason is not None), None)
