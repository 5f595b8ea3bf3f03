"""A kernel as it is launched, for compiling it where it cannot be launched: see aot.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Build:
    """Types of the arguments that are not constants; constants and launch options."""

    kernel: Any
    types: dict[str, str]
    options: dict[str, Any]
