"""Other projects' kernels for the same layer, where they are installed; one file each.

In: formats, shape, device. Out: contenders, and for every peer that does not take part the reason. Peers get the same
routing, x and shape, and the same weights where they can be given them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch

from harness.kernel_bench.contenders import Absent, Contender
from harness.kernel_bench.errors import not_allowed
from harness.kernel_bench.shapes import LayerShape

PEERS = {
    "vllm-marlin": "harness.kernel_bench.peers.vllm_marlin",
    "triton-kernels": "harness.kernel_bench.peers.triton_kernels",
    "humming": "harness.kernel_bench.peers.humming",
    "vllm-fp8": "harness.kernel_bench.peers.vllm_fp8",
    "vllm-bf16": "harness.kernel_bench.peers.vllm_bf16",
}
"""Name -> module with `contenders(shape, device) -> list[Contender]`, which raises PeerMissing."""


class PeerMissing(Exception):
    """A peer that cannot run here, with the reason."""


def parse_peers(text: str | None) -> tuple[str, ...]:
    """ "all" or names with commas between; None is none."""
    if text is None:
        return ()
    if text == "all":
        return tuple(PEERS)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in PEERS:
            raise not_allowed("--peers", name, ["all", *PEERS])
    return names


def peers(names: Sequence[str], shape: LayerShape, device: torch.device) -> tuple[list[Contender], list[Absent]]:
    """Those that are installed and take this device and shape."""
    taking: list[Contender] = []
    absent: list[Absent] = []
    for name in names:
        try:
            if device.type != "cuda":
                raise PeerMissing("needs a CUDA device, this machine has none")
            taking += import_module(PEERS[name]).contenders(shape, device)
        except PeerMissing as error:
            absent.append(Absent(name, None, str(error)))
        except Exception as error:  # whatever another project raises while it is set up is why it does not take part
            absent.append(Absent(name, None, f"could not be set up: {type(error).__name__}: {first_line(error)}"))
    return taking, absent


def first_line(error: BaseException) -> str:
    """Of its message; the type's name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
