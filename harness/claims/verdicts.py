"""What can be said of a claim, and how the checks of one claim add up to its verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

SUPPORTED, CONTRADICTED, IMPOSSIBLE = "supported", "contradicted", "impossible"
UNDERSPECIFIED, NOT_TESTABLE = "underspecified", "not testable here"
VERDICTS = (IMPOSSIBLE, CONTRADICTED, UNDERSPECIFIED, NOT_TESTABLE, SUPPORTED)
"""Weightiest first: one impossible check makes the whole claim impossible."""
MEANINGS = {
    SUPPORTED: "every check holds on the evidence named",
    CONTRADICTED: "the evidence says otherwise",
    IMPOSSIBLE: "arithmetic alone rules it out: no implementation could",
    UNDERSPECIFIED: "holds under some conditions and not under others; they are named",
    NOT_TESTABLE: "no record, and no projection that could decide it",
}
MEASURED, COMPUTED, DATA_SHEET, NO_BASIS = "measured", "computed", "data sheet", "none"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check judged. `basis` says whether measured, computed, a data sheet, or projected."""

    check: str
    verdict: str
    basis: str
    text: str
    sources: tuple[str, ...] = ()

    def to_json(self) -> dict:
        return asdict(self) | {"sources": list(self.sources)}


@dataclass(frozen=True, slots=True)
class JudgedClaim:
    """A claim with its checks judged."""

    name: str
    says: str
    note: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        return weightiest([finding.verdict for finding in self.findings])

    def to_json(self) -> dict:
        findings = [finding.to_json() for finding in self.findings]
        return {"name": self.name, "says": self.says, "verdict": self.verdict, "note": self.note, "checks": findings}


def weightiest(verdicts: Sequence[str]) -> str:
    """The verdict of a claim from its checks'; checks that support and contradict add up to contradicted."""
    return min(verdicts, key=VERDICTS.index) if verdicts else NOT_TESTABLE
