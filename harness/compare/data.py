"""A comparison as JSON data: every number that the verdicts stand on, with its n.

In: Comparison. Out: plain data for `--json` and compare.json.
"""

from dataclasses import asdict

from harness.compare.build import Comparison, PairResult
from harness.compare.identity import identity_of
from harness.compare.words import counts

SCHEMA_VERSION = 1


def data(comparison: Comparison) -> dict:
    """The whole comparison."""
    return {
        "schema_version": SCHEMA_VERSION,
        "across": comparison.across,
        "alpha": comparison.rules.alpha,
        "confidence": comparison.rules.confidence,
        "primary": [asdict(item) for item in comparison.rules.primary],
        "runs": [
            {"run_id": run.run_id, "folder": str(run.path), "scenario_sha256": run.info.get("scenario_sha256")}
            for run in comparison.runs
        ],
        "verdicts": counts(comparison),
        "pairs": [_pair(result) for result in comparison.results],
        "unpaired": [{"run_id": u.cell.run.run_id, "cell_id": u.cell.cell_id, "reason": u.reason} for u in comparison.unpaired],
        "differences": [
            {
                "group": row.group,
                "name": row.name,
                "values": dict(zip((r.run_id for r in comparison.runs), row.values, strict=True)),
            }
            for row in comparison.differences
        ],
        "notes": list(comparison.notes),
    }


def _pair(result: PairResult) -> dict:
    a, b = result.pair.a, result.pair.b
    return {
        "baseline": {"run_id": a.run.run_id, "cell_id": a.cell_id, "target": a.target, "state": a.state},
        "other": {"run_id": b.run.run_id, "cell_id": b.cell_id, "target": b.target, "state": b.state},
        "cell_scenario_sha256": identity_of(b).scenario_sha256,
        "weights_sha256": identity_of(b).weights_sha256,
        "is_interleaved": result.pair.pairing == "repeats",
        "metrics": [asdict(judgement) | {"slowdown": judgement.slowdown} for judgement in result.judgements],
        "exact": [asdict(change) for change in result.exact],
        "notes": list(result.notes),
    }
