"""What `harness profile` was asked for, beside the scenario. Plain data; decides nothing."""

from dataclasses import dataclass
from pathlib import Path

PROFILERS = ("auto", "nsys", "torch")
NSYS_TRACES = ("auto", "cuda", "nvtx")


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """What the command line adds."""

    only: str | None = None
    out: Path | None = None
    profiler: str = "auto"
    nsys_trace: str = "auto"
    """auto: CUDA and NVTX, and NVTX alone where that fails or sees too few kernels."""
    steps: int = 32
    """Most output tokens a request."""
    rounds: int = 3
    """How often each kind of listening gets its pass; under nsys once less."""
    is_eager: bool = False
    """Without CUDA graphs, so that each range has a host time."""
    kernel_in: str | None = None
    """A range whose first kernel ncu sees."""
    keep_steps: int | None = None
    """Decode steps to keep of a Chrome trace; None keeps all of it."""

    @property
    def plain_passes(self) -> tuple[str, ...]:
        """Of the process that nsys does not see."""
        return ("off", "ranges") * self.rounds + ("torch",)

    @property
    def nsys_passes(self) -> tuple[str, ...]:
        """Of the process under nsys."""
        return ("off", "nvtx") * max(1, self.rounds - 1)
