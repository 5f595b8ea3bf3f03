"""`harness report RUN...`: HTML, Markdown and plots from records; several machines' runs merge into one report."""

from pathlib import Path

import click

from harness.cli.options import json_option, print_json


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Default: the first run's folder.")
@click.option("project", "--project", metavar="GPU", multiple=True, help="Fill what was not measured on this GPU.")
@json_option
def report(runs: tuple[Path, ...], out: Path | None, project: tuple[str, ...], as_json: bool):
    """Write report.html, report.md and plots/ from the records of RUN (folders of `harness run`)."""
    from harness.errors import StorageError
    from harness.project.gpus import gpu_spec
    from harness.record import read_run
    from harness.report import write_reports

    for name in project:
        gpu_spec(name, "--project")
    for path in runs:
        read_run(path)
    try:
        paths = write_reports(list(runs), out or runs[0], project)
    except OSError as error:
        raise StorageError(f"the report could not be stored ({error}); choose another folder with --out") from None
    if as_json:
        print_json({"html": str(paths.html), "markdown": str(paths.markdown), "plots": [str(p) for p in paths.plots]})
    else:
        click.echo(f"report   {paths.html}\nmarkdown {paths.markdown}")
