"""`harness profile SCENARIO`: where the time of each cell goes; ends with the table by range and the paths."""

import sys
from pathlib import Path

import click

from harness.cli.options import json_option, only_option, print_json, print_table, set_option
from harness.errors import HarnessError, StorageError
from harness.profile.options import NSYS_TRACES, PROFILERS
from harness.progress import say


@click.command()
@click.argument("scenario_path", metavar="SCENARIO|FOLDER", type=click.Path())
@set_option
@only_option
@click.option("out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "profiler",
    "--profiler",
    type=click.Choice(PROFILERS),
    default="auto",
    help="auto: nsys where it is found, and the torch profiler for what nsys does not see.",
)
@click.option(
    "nsys_trace",
    "--nsys-trace",
    type=click.Choice(NSYS_TRACES),
    default="auto",
    help="What nsys traces on a GPU: kernels and ranges, or ranges alone. auto: the second where the first fails.",
)
@click.option("steps", "--steps", type=click.IntRange(2, 4096), default=32, help="Output tokens a request, at most.")
@click.option("rounds", "--rounds", type=click.IntRange(1, 100), default=3, help="Passes of each kind; fewer are sooner done.")
@click.option("is_eager", "--eager", is_flag=True, help="Without CUDA graphs, so that every range has a host time.")
@click.option(
    "kernel_in",
    "--kernel-in",
    metavar="RANGE",
    help="Put the first kernel launched in this range of a decode step, or in a path as prefill/experts, under ncu.",
)
@click.option("keep_steps", "--keep-steps", type=click.IntRange(1), help="Decode steps to keep of the torch profiler's traces.")
@json_option
def profile(scenario_path: str, overrides: tuple[str, ...], as_json: bool, **options):
    """Profile the cells of SCENARIO that serve requests: one table by range, from nsys and the torch profiler.

    With the FOLDER of a profile nothing is run: its GPU columns and pages are made again from the traces that it keeps.
    """
    from harness import device
    from harness.profile.command import execute_profile
    from harness.profile.options import ProfileOptions
    from harness.scenario import load_scenario

    if Path(scenario_path).is_dir():
        sys.exit(_report(_again(Path(scenario_path)), as_json=as_json))
    scenario = load_scenario(Path(scenario_path), overrides)
    run = execute_profile(scenario, device.detect(), ProfileOptions(**options), say)
    code = _report(run, as_json=as_json)
    sys.exit(code)


def _again(folder: Path):
    from harness.profile.again import profiles_again
    from harness.record import RunWriter, read_run

    RunWriter(folder).replace_records(profiles_again(folder))
    return read_run(folder)


def _report(run, *, as_json: bool) -> int:
    from harness.profile import render
    from harness.profile.command import counts, profiled
    from harness.report import write_reports

    found = list(profiled(run))
    page = run.folder / "profile.md"
    try:
        page.write_text(render.markdown([record for record, _ in found]), encoding="utf-8")
        paths = write_reports([run.folder], run.folder)
    except OSError as error:
        raise StorageError(f"{page}: could not be stored ({error}); the records are whole") from None
    failed, invalid = counts(run)
    code = 3 if invalid or failed == len(run.records) else HarnessError.exit_code if failed else 0
    if as_json:
        profiles = [{"cell_id": record["cell_id"], "profile": block} for record, block in found]
        summary = {"run_id": run.run_id, "folder": str(run.folder), "num_failed": failed, "exit_code": code}
        print_json(summary | {"profiles": profiles})
        return code
    for record, block in found:
        print_table(lambda record=record: render.rich_table(record))
        for line in render.lines(block):
            click.echo(f"  {line}")
        for reason in record["verdict"]["reasons"]:
            click.echo(f"  {record['verdict']['state']}: {reason['message']}")
    click.echo(f"\nreport   {paths.html}\ntable    {page}\nrecords  {run.folder / 'records.jsonl'}")
    return code
