"""`harness kernels`: what exists, what is taken where and why, how fast it is. Each command has a file of its own."""

import click

from harness.cli.lazy import LazyGroup

COMMANDS = {
    "list": ("harness.cli.kernels_list:list_kernels", "Every implementation: formats, needs, layout, limits; which run here."),
    "explain": (
        "harness.cli.kernels_explain:explain",
        "What is taken for a GPU, format and model, at how many tokens, and why not the others.",
    ),
    "bench": ("harness.cli.kernels_bench:bench", "Time one layer through every kernel, against the roofline and peers."),
    "tune": ("harness.cli.kernels_tune:tune", "Measure which kernel is fastest at which number of tokens; write the table."),
}
"""Command -> ("module:object", line of help)."""


@click.group(cls=LazyGroup, lazy_commands=COMMANDS)
def kernels() -> None:
    """Kernels of the MoE layer: what exists, what is taken where and why, how fast it is. Each command takes --json."""
