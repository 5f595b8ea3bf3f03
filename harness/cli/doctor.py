"""`harness doctor`: what this machine has, what is missing, and what to do about it."""

import click

from harness.cli.options import json_option, print_json


@click.command()
@json_option
def doctor(as_json: bool):
    """Check this machine: processors, memory, GPU, libraries, profilers, the shipped model."""
    from harness.doctor import examine

    rows = examine()
    if as_json:
        print_json([{"item": r.item, "state": r.state, "found": r.found, "advice": r.advice} for r in rows])
        return
    from rich.console import Console

    console = Console(highlight=False)
    marks = {"ok": "[green]ok     [/]", "missing": "[yellow]missing[/]", "problem": "[red]problem[/]"}
    for row in rows:
        console.print(f"{marks[row.state]} {row.item:14} {row.found}", soft_wrap=True)
        if row.advice:
            console.print(f"        {'':14} -> {row.advice}", soft_wrap=True, markup=False)
