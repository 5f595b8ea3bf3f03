"""`harness compare RUN...`: side by side, with ratio, interval and verdict."""

from pathlib import Path

import click

from harness.cli.options import json_option, print_json, print_table


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "across",
    "--across",
    type=click.Choice(["run", "precision", "backend"]),
    help="Default: run for several runs, precision for one.",
)
@click.option(
    "baseline", "--baseline", metavar="NAME", help="Run id, precision id or backend. Default: the first run, bf16-a16, native."
)
@click.option(
    "metrics", "--metric", multiple=True, metavar="NAME=PERCENT", help="A primary metric and its minimum effect; at most 3."
)
@click.option(
    "out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Write compare.html, compare.md, compare.json, plots/."
)
@json_option
def compare(runs, across, baseline, metrics, out, as_json):
    """Compare RUNs (folders of `harness run`) of one scenario: machines, commits, precisions, backends.

    The first run is the baseline. Unlike machines, clocks and software are listed, not refused. Exit 4 when nothing can be
    compared; a worse verdict ends in 0: it is `harness gate` that fails.
    """
    from harness.compare import compare_runs
    from harness.compare.data import data
    from harness.compare.rules import make_rules, parse_metric

    rules = make_rules([parse_metric(text) for text in metrics]) if metrics else None
    comparison = compare_runs(runs, across=across, baseline=baseline, rules=rules)
    paths = _write(comparison, out) if out is not None else {}
    if as_json:
        print_json(data(comparison) | {"files": {kind: str(path) for kind, path in paths.items()}})
        return
    from harness.compare import terminal

    for part in terminal.render(comparison):
        print_table(lambda part=part: part)
    if paths:
        click.echo("\n".join(f"{kind:8} {path}" for kind, path in paths.items()))


def _write(comparison, out: Path) -> dict[str, Path]:
    from harness.compare.write import write_comparison
    from harness.errors import StorageError

    try:
        return write_comparison(comparison, out)
    except OSError as error:
        raise StorageError(f"{out}: the comparison could not be stored ({error}); choose another folder with --out") from None
