"""Claims of a scenario, held against records, arithmetic, data sheets and projections.

In: the `claims` of a scenario as data (`name`, `says`, `note`, `checks`), folders of runs. Out: JudgedClaim rows, each with a
verdict: supported, contradicted, impossible, underspecified, not testable here. Importing this imports no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.claims.verdicts import JudgedClaim

__all__ = ["JudgedClaim", "judge_scenario"]


def judge_scenario(claims: Sequence[Mapping], runs: Iterable[Path | str] = ()) -> list[JudgedClaim]:
    """Every claim judged; figures of `runs` count before those that ship."""
    from harness.claims.evidence import gather
    from harness.claims.grammar import parse_check
    from harness.claims.judge import judge_check

    evidence = gather(Path(run) for run in runs)
    judged = []
    for index, claim in enumerate(claims):
        findings = []
        for number, text in enumerate(claim["checks"]):
            check = parse_check(text, f"claims[{index}].checks[{number}]")
            findings.append(judge_check(check, evidence))
        judged.append(JudgedClaim(claim["name"], claim.get("says") or "", claim.get("note") or "", tuple(findings)))
    return judged
