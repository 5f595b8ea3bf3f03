"""`harness gate`: hold a run against its baseline, or two commits against each other on this machine. For CI."""

import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from harness.cli.options import json_option, only_option, print_json, print_table, set_option
from harness.errors import UsageError
from harness.progress import say


@click.command()
@click.argument("target", metavar="RUN|SCENARIO", type=click.Path(path_type=Path))
@click.option(
    "baseline",
    "--baseline",
    metavar="B",
    type=click.Path(path_type=Path),
    help="A run, or a folder of baselines. Default: results/baselines/gates.",
)
@click.option(
    "against", "--ab", metavar="COMMIT|YAML|KEY=VALUE", help="Measure SCENARIO here in turn with this commit or configuration."
)
@click.option("update", "--update", is_flag=True, help="Make RUN the baseline of this machine and scenario.")
@click.option("reason", "--reason", metavar="TEXT", default="", help="Why the baseline changes; kept beside it.")
@click.option(
    "policy", "--on-inconclusive", type=click.Choice(["fail", "warn"]), help="Overrides the scenario's gates.on_inconclusive."
)
@click.option(
    "out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Where gate.md, gate.junit.xml and gate.json go."
)
@click.option(
    "annotate", "--annotations/--no-annotations", default=None, help="GitHub annotations; default: under GitHub Actions."
)
@set_option
@only_option
@json_option
def gate(target, baseline, against, update, reason, policy, out, annotate, overrides, only, as_json):
    """Hold RUN against its baseline. Exit 0 when each gate is decided and none is worse, 1 on a regression, 3 when nothing
    could be shown (inconclusive included, unless it is to warn), 4 without a comparable baseline.

    RUN is a folder of `harness run`; with --ab it is a SCENARIO, measured here in turn with a commit, another scenario or
    changed values, until the answer is clear.
    """
    if update:
        _update(target, baseline, reason, as_json=as_json)
        return
    if reason:
        raise UsageError("--reason: goes with --update")
    if against is None:
        _refuse(overrides, only)
        result, folder = _against_stored(target, baseline), out or target
    else:
        if baseline is not None:
            raise UsageError("--ab and --baseline: give one of them")
        folder = out or _new_folder(target)
        result = _in_turn(target, against, overrides, only, folder)
    _finish(result, folder, policy, annotate, as_json=as_json)


def _refuse(overrides, only) -> None:
    if overrides or only:
        raise UsageError("--set and --only: go with --ab; a RUN is measured already")


def _against_stored(target: Path, baseline: Path | None):
    from harness.gate.decide import decide
    from harness.gate.settings import gates_of
    from harness.gate.store import find_baseline, require_same_machine
    from harness.report.data import load

    run = load(target)
    stored = find_baseline(run, baseline)
    require_same_machine(stored, run)
    return decide(stored, run, gates_of(run))


def _in_turn(target: Path, against: str, overrides, only, folder: Path):
    from harness.gate.ab import AbOptions, run_ab

    if target.is_dir():
        raise UsageError(f"{target}: --ab measures, so it takes a scenario file, not a run's folder")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--out {folder}: is not empty; name another folder")
    return run_ab(against, AbOptions(target, overrides, only, folder), say)


def _new_folder(target: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path("results/runs") / f"{stamp}-gate-{target.stem}-{secrets.token_hex(3)}"


def _finish(result, folder: Path, policy, annotate, *, as_json: bool) -> None:
    from harness.gate import output
    from harness.gate.decide import with_policy

    result = with_policy(result, policy)
    paths = output.write(result, folder)
    if annotate or (annotate is None and os.environ.get("GITHUB_ACTIONS") == "true"):
        say(output.annotations(result))
    if as_json:
        print_json(output.data(result) | {"files": {kind: str(path) for kind, path in paths.items()}})
    else:
        print_table(lambda: output.terminal_table(result))
        for outcome in result.outcomes:
            if outcome.state not in ("passed", "better") and outcome.detail:
                say(f"{outcome.state}: {outcome.cell_id}: {outcome.metric}: {outcome.detail}")
        for note in result.notes:
            say(f"note: {note}")
        click.echo("\n".join(f"{kind:8} {path}" for kind, path in paths.items()))
    sys.exit(result.exit_code)


def _update(target: Path, root: Path | None, reason: str, *, as_json: bool) -> None:
    from harness.gate.store import update_baseline
    from harness.report.data import load

    folder = update_baseline(load(target), root, reason)
    if as_json:
        print_json({"baseline": str(folder), "reason": reason})
    else:
        click.echo(f"baseline {folder}")
