"""`harness kernels tune`: which kernel runs which number of tokens on this GPU, measured and written for selection."""

from pathlib import Path

import click

from harness.cli.kernels_bench import TOKENS
from harness.cli.options import json_option, print_json


@click.command()
@click.option("model", "--model", metavar="NAME|PATH", default="mixtral-8x7b", show_default=True, help="Whose layer.")
@click.option("tokens", "--tokens", metavar="N,N,...", help=f"Token counts. Default: {TOKENS}.")
@click.option("precisions", "--precision", multiple=True, metavar="ID", help="Weight x activation format. Repeatable.")
@click.option("routing", "--routing", default="uniform", show_default=True, metavar="HOW", help="As `bench` takes it.")
@click.option("layout", "--layout", metavar="NAME", help="Layout of the weights. Default: the one whose kernels are fastest.")
@click.option("seed", "--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Of weights, x and ids.")
@click.option("copies", "--copies", type=click.IntRange(1, 4096), help="As `bench` takes it.")
@click.option("repeats", "--repeats", default=15, show_default=True, type=click.IntRange(1, 1000), help="Samples a figure.")
@click.option("source", "--from", metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
              help="Measure nothing: take the rows of a bench's folder.")  # fmt: skip
@click.option("record", "--record", metavar="PATH", help="Where the rows will be kept, as the table should name it.")
@click.option("out", "--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Write here instead of kernels/fp4moe/select/tuned/<gpu>.json.")  # fmt: skip
@click.option("dry_run", "--dry-run", is_flag=True, help="Show the difference; write nothing.")
@json_option
def tune(source: Path | None, layout: str | None, record: str | None, out: Path | None, dry_run: bool, as_json: bool, **asked):
    """Time every kernel over token counts, derive where each is fastest, and write the table that selection reads.

    A model packs its weights once, so the kernels of one table share a layout. Shows the difference from what is there.
    """
    from harness.kernel_bench.command import measure
    from harness.kernel_bench.results import Bench, read_bench
    from harness.kernel_bench.tuned import propose

    if source is not None:
        bench = read_bench(source)
    else:
        result = measure(out=None, kernels=(), peers=None, check_only=False, **asked)
        bench = Bench(result.folder, result.info, result.rows)
    proposal = propose(bench, layout=layout, out=out, record=record)
    if not dry_run:
        proposal.write()
    if as_json:
        print_json({"path": str(proposal.path), "is_written": not dry_run, "layouts": proposal.layouts, "diff": proposal.diff})
        return
    for name, chosen in proposal.layouts.items():
        click.echo(f"{name}: layout {chosen}")
    click.echo(proposal.diff or f"{proposal.path}: unchanged")
    click.echo(f"{'would write' if dry_run else 'wrote'} {proposal.path}")
