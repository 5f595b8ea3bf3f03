"""What a machine has beside its device: the tools that build kernels at first use.

In: nothing, or the names that are there. Out: `Environment`, which says in words what is missing. A compiler that is not
there must not be found out in the middle of a forward pass. Runs nothing and imports neither torch nor Triton; that a tool
is there does not say that it works.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec

from fp4moe.cuda.build import nvcc_path

REASONS = {
    "nvcc": "needs nvcc to be built and none was found; install the CUDA toolkit or set CUDA_HOME",
    "triton": "needs the package triton and it cannot be imported; install it with: pip install triton",
    "cc": "needs a C compiler for Triton's launcher and none was found; install gcc or set CC",
}
"""Tool -> why a row that needs it is refused where it is missing."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The tools of REASONS that a machine has."""

    tools: frozenset[str]

    @classmethod
    def of_this_machine(cls) -> Environment:
        """What is here now."""
        return cls(frozenset(name for name, where in found_tools().items() if where))

    def refusal(self, needs: tuple[str, ...]) -> str | None:
        """Why a row with these needs cannot be built here, or None."""
        return next((REASONS[name] for name in needs if name not in self.tools), None)


def found_tools() -> dict[str, str | None]:
    """Tool -> where it is here, or None."""
    triton = find_spec("triton")
    return {"nvcc": nvcc_path(), "triton": None if triton is None else triton.origin, "cc": _c_compiler()}


def _c_compiler() -> str | None:
    return os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")


COMPLETE = Environment(frozenset(REASONS))
"""A machine that lacks nothing: what is assumed of one that is not this one."""
