"""`harness selfcheck`: the load client's true error on this machine, against a mock that stamps its clock."""

import sys

import click

from harness.cli.options import json_option, print_json, print_table
from harness.progress import say


@click.command()
@click.option("--streams", default=32, show_default=True, type=click.IntRange(1, 2048), help="Streams while times are checked.")
@json_option
def selfcheck(streams: int, as_json: bool):
    """Measure the load client itself: errors of its times, its capacity, its arrivals; about 10 s.

    Ends in 3 when a limit is not kept: what this machine would measure now, it would measure wrongly.
    """
    from dataclasses import asdict

    from harness.client.selfcheck import Sizes
    from harness.client.selfcheck import selfcheck as check

    rows = check(Sizes(streams=streams), say)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_table(lambda: _table(rows))
    sys.exit(0 if all(row.passed for row in rows) else 3)


def _table(rows):
    from rich.table import Table

    table = Table(title="The load client against the truth, on this machine")
    for name in ("figure", "value", "unit", "n", "limit", ""):
        table.add_column(name, justify="right" if name in ("value", "n", "limit") else "left", no_wrap=True)
    table.add_column("what it is")
    for row in rows:
        mark = "" if row.limit is None else ("[green]ok[/]" if row.passed else "[red]MISSED[/]")
        table.add_row(row.name, f"{row.value:.4g}", row.unit, str(row.n), row.limit or "", mark, row.meaning)
    return table
