"""`harness report RUN...`: HTML, Markdown and plots from records; several machines' runs merge into one report."""

from dataclasses import asdict
from pathlib import Path

import click

from harness.cli.options import json_option, print_json


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Default: the first run's folder.")
@click.option("project", "--project", metavar="GPU", multiple=True, help="Fill what was not measured on this GPU.")
@click.option(
    "judge_again", "--judge-again", is_flag=True, help="First judge clocks and throttling anew from the stored samples."
)
@json_option
def report(runs: tuple[Path, ...], out: Path | None, project: tuple[str, ...], judge_again: bool, as_json: bool):
    """Write report.html, report.md and plots/ from the records of RUN (folders of `harness run`).

    --judge-again rewrites each RUN's records.jsonl: the part of its verdicts that telemetry gives, by this version's rules.
    """
    from harness.errors import StorageError
    from harness.project.gpus import gpu_spec
    from harness.record import read_run
    from harness.report import write_reports

    for name in project:
        gpu_spec(name, "--project")
    for path in runs:
        read_run(path)
    changes = _judged_again(runs) if judge_again else []
    try:
        paths = write_reports(list(runs), out or runs[0], project)
    except OSError as error:
        raise StorageError(f"the report could not be stored ({error}); choose another folder with --out") from None
    if as_json:
        shown = {"html": str(paths.html), "markdown": str(paths.markdown), "plots": [str(p) for p in paths.plots]}
        print_json(shown | ({"judged_again": [asdict(change) for change in changes]} if judge_again else {}))
    else:
        for change in changes:
            click.echo(f"{change.cell_id}, repeat {change.repeat}: {change.before} -> {change.after}")
        click.echo(f"report   {paths.html}\nmarkdown {paths.markdown}")


def _judged_again(runs: tuple[Path, ...]) -> list:
    """All runs are judged before the first is written."""
    from harness.record import RunWriter
    from harness.run.judge_again import judge_again

    judged = [(path, judge_again(path)) for path in dict.fromkeys(runs)]
    for path, (records, _) in judged:
        RunWriter(path).replace_records(records)
    return [change for _, (_, changes) in judged for change in changes]
