"""`harness profile SCENARIO`: where the time of each cell goes; ends with the table by range and the paths."""

import sys
from pathlib import Path

import click

from harness.cli.options import json_option, only_option, print_json, print_table, scenario_argument, set_option
from harness.errors import HarnessError, StorageError
from harness.progress import say


@click.command()
@scenario_argument
@set_option
@only_option
@click.option("out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "profiler",
    "--profiler",
    type=click.Choice(["auto", "nsys", "torch"]),
    default="auto",
    help="auto: nsys where it is found, and the torch profiler for what nsys does not see.",
)
@click.option("steps", "--steps", type=click.IntRange(2, 4096), default=32, help="Output tokens a request, at most.")
@click.option("kernel_in", "--kernel-in", metavar="RANGE", help="Put the first kernel launched in this range under ncu.")
@json_option
def profile(
    scenario_path: str,
    overrides: tuple[str, ...],
    only: str | None,
    out: Path | None,
    profiler: str,
    steps: int,
    kernel_in: str | None,
    as_json: bool,
):
    """Profile the cells of SCENARIO that serve requests: one table by range, from nsys and the torch profiler."""
    from harness import device
    from harness.profile.command import ProfileOptions, execute_profile
    from harness.scenario import load_scenario

    scenario = load_scenario(Path(scenario_path), overrides)
    options = ProfileOptions(only=only, out=out, profiler=profiler, steps=steps, kernel_in=kernel_in)
    run = execute_profile(scenario, device.detect(), options, say)
    code = _report(run, as_json=as_json)
    sys.exit(code)


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
