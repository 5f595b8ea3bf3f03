"""What the peers share: finding a package, its version, and the context that vLLM's layers ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module, metadata
from typing import Any

from torch import Tensor

from harness.kernel_bench.contenders import Contender, Routed
from harness.kernel_bench.formats import parse_format
from harness.kernel_bench.peers import PeerMissing, first_line


def version(package: str) -> str:
    """The installed version; PeerMissing where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise PeerMissing(f"{package} is not installed (pip install {package})") from None


def take(package: str, *names: str) -> list[Any]:
    """Objects by "module:object" of an installed package; PeerMissing where one is not there."""
    found = version(package)
    # Its log goes to standard output otherwise, where --json has its one document.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    objects = []
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            objects.append(getattr(import_module(module), attribute) if attribute else import_module(module))
        except Exception as error:  # an import runs code: a driver or another package's version may raise anything
            raise PeerMissing(f"{package} {found} is installed, but {name} cannot be had: {first_line(error)}") from None
    return objects


def vllm_context() -> AbstractContextManager:
    """vLLM's custom operations look a configuration up; the default one will do."""
    config = _vllm_config()
    if config is None:
        return nullcontext()
    from vllm.config import set_current_vllm_config

    return set_current_vllm_config(config)


@cache
def _vllm_config() -> Any | None:
    try:
        from vllm.config import VllmConfig
    except ImportError:
        return None
    return VllmConfig()


def peer(
    name: str,
    format_id: str,
    *,
    pack: Callable[[Any, Any], Any],
    bind: Callable[[Any, Tensor, Routed], Callable[[], Tensor]],
    note: str,
    not_checked: str | None = None,
) -> Contender:
    """A contender that packs and runs in vLLM's context and takes any number of tokens."""

    def packed(gate_up, down):
        with vllm_context():
            return pack(gate_up, down)

    def bound(weights, x_TD: Tensor, routed: Routed) -> Callable[[], Tensor]:
        call = bind(weights, x_TD, routed)

        def run() -> Tensor:
            with vllm_context():
                return call()

        return run

    return Contender(
        name=name,
        form=parse_format(format_id),
        layout=name,
        pack=lambda: packed,
        bind=bound,
        refusal=lambda tokens: None,
        is_peer=True,
        not_checked=not_checked,
        note=note,
    )


def tuned_configuration(num_experts: int, intermediate: int, dtype: str | None) -> str:
    """Whether vLLM ships a tuned configuration for this shape and GPU; fused_experts takes it by itself."""
    module = "vllm.model_executor.layers.fused_moe.fused_moe"
    try:
        lookup, name_of = take("vllm", f"{module}:get_moe_configs", f"{module}:get_config_file_name")
    except PeerMissing as error:
        return f"whether vLLM ships a tuned configuration could not be looked up ({error})"
    try:
        with vllm_context():
            file, found = name_of(num_experts, intermediate, dtype), lookup(num_experts, intermediate, dtype)
    except Exception as error:  # a note is not worth a peer
        return f"whether vLLM ships a tuned configuration could not be looked up ({first_line(error)})"
    if found is None:
        return f"vLLM ships no tuned configuration for this shape and GPU ({file}): its default runs"
    return f"tuned configuration shipped by vLLM: {file}"
