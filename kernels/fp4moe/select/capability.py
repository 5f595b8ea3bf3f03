"""What a device is, as far as the choice of a kernel depends on it.

In: "cpu", "sm_120", "12.0" or "cuda:0". Out: `Capability`. Capabilities are ordered, but a newer one is not a
superset of an older one (sm_120 has no tcgen05), which is why `family` exists. Shared memory sizes: CUDA C++
Programming Guide, "Technical Specifications per Compute Capability". Only `of_device` touches a device, and
only for a CUDA one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fp4moe.errors import SelectionError

_PATTERN = re.compile(r"sm_?(\d{2,3})[af]?|(\d{1,2})\.(\d)", re.IGNORECASE)

# Largest shared memory a block may ask for, KiB. A capability that is missing here is not known, not zero.
_SHARED_MEMORY_KIB = {
    (7, 5): 64,
    (8, 0): 163,
    (8, 6): 99,
    (8, 7): 163,
    (8, 9): 99,
    (9, 0): 227,
    (10, 0): 227,
    (10, 3): 227,
    (12, 0): 99,
    (12, 1): 99,
}


@dataclass(frozen=True, slots=True)
class Capability:
    """A compute capability, or the CPU. `major` and `minor` are 0 for the CPU."""

    kind: str
    major: int = 0
    minor: int = 0

    @classmethod
    def parse(cls, text: str) -> Capability:
        """ "cpu", "sm_120", "sm120", "sm_90a" or "12.0"; raises SelectionError."""
        if text.strip().lower() == "cpu":
            return cls("cpu")
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise SelectionError(f"capability: must be like 'sm_120', '12.0' or 'cpu' (got {text!r})")
        digits, major, minor = match.groups()
        if digits:
            major, minor = digits[:-1], digits[-1]
        return cls("cuda", int(major), int(minor))

    @classmethod
    def of_device(cls, device: str) -> Capability:
        """The capability of "cpu" or of an attached CUDA device; imports torch for the latter."""
        kind = str(device).partition(":")[0]
        if kind == "cpu":
            return cls("cpu")
        if kind != "cuda":
            raise SelectionError(f"device: must be 'cpu' or 'cuda[:N]' (got {str(device)!r})")
        import torch

        return cls("cuda", *torch.cuda.get_device_capability(device))

    @property
    def name(self) -> str:
        """ "cpu" or "sm_120"."""
        return "cpu" if self.kind == "cpu" else f"sm_{self.major}{self.minor}"

    @property
    def number(self) -> int:
        """major * 10 + minor, as vLLM and `-arch` write it: 120 for 12.0."""
        return self.major * 10 + self.minor

    @property
    def family(self) -> int:
        """number // 10: 10 for sm_100 and sm_103, 12 for sm_120."""
        return self.number // 10

    @property
    def shared_memory_bytes(self) -> int | None:
        """Most shared memory a block can use; None where not known (and on the CPU)."""
        kib = _SHARED_MEMORY_KIB.get((self.major, self.minor))
        return None if kib is None else kib * 1024
