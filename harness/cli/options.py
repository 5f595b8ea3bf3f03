"""Options and output that several commands share."""

import json
from collections.abc import Callable
from typing import Any

import click

json_option = click.option("as_json", "--json", is_flag=True, help="Machine-readable result on standard output.")
set_option = click.option(
    "overrides",
    "--set",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value of the scenario: --set repeats=1",
)
gpu_option = click.option("gpu", "--gpu", metavar="NAME", help="Plan for this GPU, which need not be attached.")
only_option = click.option("only", "--only", metavar="EXPR", help="Only the cells that fit: precision=nvfp4*,workload=single")
scenario_argument = click.argument("scenario_path", metavar="SCENARIO", type=click.Path(dir_okay=False))


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def print_table(build: Callable[[], Any]) -> None:
    """A rich table on standard output; wide enough to be whole when the output is not a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    console.print(build())
