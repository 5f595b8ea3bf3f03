"""`harness report RUN...`: HTML, Markdown and plots from records; several machines' runs merge into one report."""

from pathlib import Path

import click

from harness.cli.options import json_option, print_json


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Default: the first run's folder.")
@json_option
def report(runs: tuple[Path, ...], out: Path | None, as_json: bool):
    """Write report.html, report.md and plots/ from the records of RUN (folders of `harness run`)."""
    from harness.errors import StorageError
    from harness.record import read_run
    from harness.report import write_reports

    for path in runs:
        read_run(path)
    try:
        paths = write_reports(list(runs), out or runs[0])
    except OSError as error:
        raise StorageError(f"the report could not be stored ({error}); choose another folder with --out") from None
    if as_json:
        print_json({"html": str(paths.html), "markdown": str(paths.markdown), "plots": [str(p) for p in paths.plots]})
    else:
        click.echo(f"report   {paths.html}\nmarkdown {paths.markdown}")
