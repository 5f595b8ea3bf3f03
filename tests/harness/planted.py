"""A copy of this checkout as a repository of its own, with a second commit that plants a slow kernel choice.

In: a folder. Out: its root; HEAD~1 is this working tree as it is, HEAD puts a row before the reference that reads and
expands the weights of every expert, hit or not, before it computes the same output.
"""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL = '''"""The experts of one layer after expanding every expert's weights: right, and slower than it need be."""

from fp4moe.quantize import dequantize
from fp4moe.reference import experts as reference_experts


def experts(x_TD, packed, routing, activations):
    """As the reference; only the experts that were hit are used."""
    for w in (packed.gate_up, packed.down):
        for expert in range(w.shape[0]):
            dequantize(w[expert])
    return reference_experts(x_TD, packed, routing, activations)
'''
ROW = """    Implementation(
        op="experts",
        name="every-expert",
        weight_formats=ALL_WEIGHTS,
        activation_formats=ALL_ACTIVATIONS,
        capabilities=(AnyDevice(),),
        target="fp4moe.every_expert:experts",
        note="expands every expert's weights",
    ),
    _reference("experts"),
"""


def copy_checkout(folder: Path) -> Path:
    """The tracked and new files of this working tree, committed in a new repository."""
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not name.startswith("results/baselines/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "As it is")
    return folder


def plant_slow_kernel(folder: Path) -> None:
    """The second commit."""
    (folder / "kernels" / "fp4moe" / "every_expert.py").write_text(KERNEL)
    table = folder / "kernels" / "fp4moe" / "select" / "table.py"
    text = table.read_text()
    assert text.count('    _reference("experts"),\n') == 1
    table.write_text(text.replace('    _reference("experts"),\n', ROW))
    commit(folder, "Take another kernel")


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "-m", message)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout
