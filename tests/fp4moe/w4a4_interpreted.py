"""Calls run in a process of their own in which Triton interprets its kernels on the CPU.

TRITON_INTERPRET is read when a kernel is defined, so it cannot be set in a process that has imported one. In: a list of
(module, function, arguments by position, by name). Out: their results in order. Arguments and results travel by torch.save.
"""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import torch

KERNELS = Path(__file__).parents[2] / "kernels"


def interpreted(calls: list[tuple], folder: Path) -> list:
    """Results of the calls; a failure in the child shows its own traceback."""
    torch.save(calls, folder / "calls.pt")
    paths = os.pathsep.join([str(KERNELS), str(Path(__file__).parent)])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, __file__, str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "results.pt", weights_only=False)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    results = [
        getattr(import_module(module), function)(*args, **kwargs)
        for module, function, args, kwargs in torch.load(place / "calls.pt", weights_only=False)
    ]
    torch.save(results, place / "results.pt")
