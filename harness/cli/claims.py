"""`harness claims SCENARIO [RUN...]`: hold what a scenario claims against what is known."""

from pathlib import Path

import click

from harness.cli.options import json_option, print_json, print_table, scenario_argument


@click.command()
@scenario_argument
@click.argument("runs", metavar="[RUN...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Write claims.md and claims.json there.")
@click.option("--strict", is_flag=True, help="End with exit code 1 when a claim is contradicted or impossible.")
@json_option
def claims(scenario_path: str, runs: tuple[Path, ...], out: Path | None, strict: bool, as_json: bool):
    """Judge the claims of SCENARIO: supported, contradicted, impossible, underspecified, or not testable here.

    Records of RUN count first, then the records that ship, then arithmetic and projections, each named. Runs nothing.
    """
    from harness.claims import judge_scenario
    from harness.claims.show import terminal
    from harness.errors import UsageError
    from harness.scenario import load_scenario

    scenario = load_scenario(Path(scenario_path))
    if not scenario.claims:
        raise UsageError(f"{scenario_path}: claims: required here, and missing; add a list of claims (see docs/claims.md)")
    judged = judge_scenario([claim.model_dump() for claim in scenario.claims], runs)
    data = {"scenario": scenario.name, "claims": [claim.to_json() for claim in judged]}
    if out is not None:
        _write(out, scenario, scenario_path, judged, data)
    if as_json:
        print_json(data)
    else:
        print_table(lambda: terminal(judged))
    if strict and any(claim.verdict in ("contradicted", "impossible") for claim in judged):
        raise click.exceptions.Exit(1)


def _write(out: Path, scenario, scenario_path: str, judged, data: dict) -> None:
    import json

    from harness.claims.show import markdown
    from harness.errors import StorageError

    provenance = (
        f"Written by `harness claims {scenario_path} --out {out}`. Measured: from the records named. Computed: arithmetic. "
        "PROJECTED: from measured layers by docs/projection.md; unvalidated: on an architecture that was never measured."
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "claims.md").write_text(markdown(scenario.description or scenario.name, judged, provenance), encoding="utf-8")
        (out / "claims.json").write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{out}: could not be written ({error}); choose another folder with --out") from None
