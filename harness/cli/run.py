"""`harness run SCENARIO`: plan, measure, record, report; ends with the table and the paths."""

import sys
from pathlib import Path

import click

from harness.cli.options import (
    json_option,
    only_option,
    print_json,
    print_table,
    scenario_argument,
    set_option,
)
from harness.drops import group_drops
from harness.errors import HarnessError, InterruptedRunError, StorageError
from harness.progress import say


@click.command()
@scenario_argument
@set_option
@only_option
@click.option("out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("resume", "--resume", is_flag=True, help="Go on with an interrupted run; run only what is missing.")
@json_option
def run(
    scenario_path: str,
    overrides: tuple[str, ...],
    only: str | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
):
    """Run SCENARIO (a YAML file) on this machine and write records and a report."""
    from harness import device
    from harness.report import write_reports
    from harness.run import RunOptions, execute
    from harness.scenario import load_scenario

    scenario = load_scenario(Path(scenario_path), overrides)
    options = RunOptions(only=only, out=out, resume="yes" if resume else "no")
    outcome = execute(scenario, device.detect(), options)
    folder = outcome.run.folder
    say("writing the report ...")
    again = f"the records in {folder} are whole; write the report with: harness report {folder}"
    try:
        paths = write_reports([folder], folder)
    except OSError as error:
        raise StorageError(f"the report could not be stored ({error}); {again}") from None
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted while writing the report; {again}") from None
    code = exit_code(outcome)
    if as_json:
        print_json(_summary(outcome, paths, code))
    else:
        _print_outcome(outcome, paths)
    sys.exit(code)


def exit_code(outcome) -> int:
    """0 when everything planned is measured and valid; 3 when a record is invalid or none is left; 5 when a cell failed."""
    if outcome.num_invalid or outcome.num_failed == len(outcome.run.records):
        return 3
    return HarnessError.exit_code if outcome.num_failed else 0


def _summary(outcome, paths, code: int) -> dict:
    run = outcome.run
    return {
        "run_id": run.run_id,
        "folder": str(run.folder),
        "html": str(paths.html),
        "markdown": str(paths.markdown),
        "num_records": len(run.records),
        "num_failed": outcome.num_failed,
        "num_invalid": outcome.num_invalid,
        "exit_code": code,
    }


def _print_outcome(outcome, paths) -> None:
    from harness.report import terminal_table

    folder = outcome.run.folder
    print_table(lambda: terminal_table([folder]))
    for group in group_drops(outcome.run.info["plan"]["dropped"]):
        say(f"dropped: {group.line}")
    for record in outcome.run.records:
        if record["status"] != "ok" or record["verdict"]["state"] == "INVALID":
            reasons = "; ".join(reason["message"] for reason in record["verdict"]["reasons"])
            say(f"{record['verdict']['state']}: {record['cell_id']} repeat {record['repeat']}: {reasons}")
    click.echo(f"report   {paths.html}\nmarkdown {paths.markdown}\nrecords  {folder / 'records.jsonl'}")
