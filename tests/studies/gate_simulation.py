"""The gate's decisions over simulated comparisons that vary as real A/A runs did.

In: aa.json, aa_30.json and ab.json of gate_study.py. Out: simulation.json and study.md. A simulated comparison is made of
blocks of consecutive real pairs, as long as one start of the workers, drawn with replacement from all A/A runs of one source;
each block's sides are swapped or not by a coin, so that the truth is exactly no difference while load, drift and what a
process owes to its memory stay as they were. A slowdown multiplies the candidate's times and divides its rates. Then the
gate's own code looks, settles and judges.
"""

import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from harness.compare.judge import judge_all
from harness.compare.rules import GATE_ALPHA, Primary, Rules
from harness.compare.values import Values
from harness.gate.interleave import LOOKS, REPEATS_A_START, is_settled
from harness.gate.quiet import quiet_enough
from harness.metrics import METRICS

SOURCES = ("aa", "aa_30")
"""Real runs of equal code whose variation is simulated: as the gate is, and earlier ones on a busier machine."""
MAX_REPEATS = LOOKS[-1]
NUM_RESAMPLES = 149
"""Fewer than the gate's 3999, whose intervals differ from these by a few percent of their width."""
RULES = Rules(
    (Primary("median_step_cpu_ms", 3.0), Primary("output_throughput", 3.0)),
    GATE_ALPHA,
    num_resamples=NUM_RESAMPLES,
)
REAL_RULES = Rules(RULES.primary, GATE_ALPHA)
"""With all of the gate's resamples, for runs that were really taken."""
SLOWDOWNS = (0.0, 0.05, 0.10)


def run_simulation(real: Path, out: Path, *, source: str, num: int) -> None:
    """Simulate `num` comparisons of each true slowdown with the variation of `source`; write the counts and the page."""
    blocks = [block for run in read(real, source) for block in blocks_of(run)]
    tasks = [(blocks, slowdown, count(slowdown, num)) for slowdown in SLOWDOWNS]
    with ProcessPoolExecutor(max_workers=2) as pool:
        simulated = list(pool.map(simulate, *zip(*tasks, strict=True), range(len(tasks))))
    head = {"source": source, "num_blocks": len(blocks), "num_real_runs": len(read(real, source))}
    rows = [row for row in simulated_so_far(out) if row["source"] != source] + [head | row for row in simulated]
    write(sorted(rows, key=lambda row: SOURCES.index(row["source"])), real, out)


def rewrite(real: Path, out: Path) -> None:
    """The page again, with all real runs that there are by now; what was simulated stays."""
    write(simulated_so_far(out), real, out)


def simulated_so_far(out: Path) -> list[dict]:
    path = out / "simulation.json"
    return json.loads(path.read_text())["simulated"] if path.exists() else []


def write(simulated: list[dict], real: Path, out: Path) -> None:
    """Join the simulation with the real runs, as today's gate judges them."""
    from gate_page import KINDS, page

    equal = {source: read(real, source) for source in SOURCES}
    result = {
        "simulated": simulated,
        "real": {kind: [replayed(run) for run in read(real, kind)] for kind in KINDS},
        "variation": {source: variation(runs) for source, runs in equal.items()},
        "stored_baseline": {source: stored_baseline(runs) for source, runs in equal.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "simulation.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "study.md").write_text(page(result))


def read(real: Path, kind: str) -> list[dict]:
    path = real / f"{kind}.json"
    return json.loads(path.read_text())["runs"] if path.exists() else []


def count(slowdown: float, num: int) -> int:
    """A quarter of the comparisons for the slowdown that is hardly ever missed."""
    return num if slowdown <= 0.05 else num // 4


def blocks_of(run: dict) -> list[np.ndarray]:
    """[2 sides, metrics, repeats of one start] arrays, whole blocks only."""
    sides = np.array([[run[side][item.metric] for item in RULES.primary] for side in ("baseline", "candidate")])
    count = sides.shape[2] // REPEATS_A_START
    return [sides[:, :, i * REPEATS_A_START : (i + 1) * REPEATS_A_START] for i in range(count)]


def simulate(blocks: list[np.ndarray], slowdown: float, num: int, seed: int) -> dict:
    """Counts over `num` comparisons with the given true slowdown."""
    states, verdicts, repeats = Counter(), {item.metric: Counter() for item in RULES.primary}, []
    for trial in range(num):
        judged, used = one_comparison(blocks, slowdown, np.random.default_rng([seed, trial]))
        states[state_of(judged)] += 1
        repeats.append(used)
        for judgement in judged:
            verdicts[judgement.metric][judgement.verdict] += 1
    return {
        "true_slowdown_pct": 100 * slowdown,
        "num": num,
        "states": dict(states),
        "verdicts": {name: dict(found) for name, found in verdicts.items()},
        "median_repeats": float(np.median(repeats)),
    }


def one_comparison(blocks: list[np.ndarray], slowdown: float, rng: np.random.Generator):
    """(judgements at the end, repeats used), looked at as the gate does."""
    drawn = [blocks[i][:: rng.choice((1, -1))] for i in rng.integers(len(blocks), size=MAX_REPEATS // REPEATS_A_START)]
    a, b = np.concatenate(drawn, axis=2)
    for row, item in enumerate(RULES.primary):
        b[row] = b[row] / (1 + slowdown) if METRICS[item.metric].direction == "higher" else b[row] * (1 + slowdown)
    for look in LOOKS:
        judged = judge(a[:, :look], b[:, :look], pairing="repeats")
        if is_settled(judged):
            break
    return judged, look


def replay(run: dict):
    """(judgements at the end, repeats used) of a real run's repeats, looked at as the gate of today does."""
    sides = [np.array([run[side][item.metric] for item in RULES.primary]) for side in ("baseline", "candidate")]
    count = min(side.shape[1] for side in sides)
    for look in [look for look in LOOKS if look < count] + [count]:
        judged = judge(*(side[:, :look] for side in sides), pairing="repeats", rules=REAL_RULES)
        if is_settled(judged):
            break
    return judged, look


def replayed(run: dict) -> dict:
    """A real run as the gate of today judges its repeats, with what the machine was doing."""
    judged, used = replay(run)
    return {
        "state": state_of(judged),
        "repeats": used,
        "slowdown_pct": {j.metric: round(100 * (j.slowdown - 1), 1) for j in judged},
        "verdicts": {j.metric: j.verdict for j in judged},
        "seconds": run["seconds"],
        "load_average": run["load_average"],
    }


def judge(a: np.ndarray, b: np.ndarray, *, pairing: str, rules: Rules = RULES):
    sides = [(item, as_values(a[row], item), as_values(b[row], item)) for row, item in enumerate(RULES.primary)]
    judged = judge_all(sides, rules, pairing=pairing)
    if pairing == "repeats":
        return judged
    return [quiet_enough(j, x, y) for j, (_, x, y) in zip(judged, sides, strict=True)]


def as_values(numbers: np.ndarray, item: Primary) -> Values:
    return Values(dict(enumerate(numbers.tolist())), METRICS[item.metric].unit)


def state_of(judged) -> str:
    """What the gate as a whole would say of the timed metrics."""
    verdicts = [judgement.verdict for judgement in judged]
    if "worse" in verdicts:
        return "regression"
    return "inconclusive" if "inconclusive" in verdicts else "no regression"


def variation(runs: list[dict]) -> dict:
    """Standard deviation of log ratios of neighbours, of repeats of one side, and of whole runs' medians."""
    found = {}
    for item in RULES.primary:
        a, b = ([np.log(run[side][item.metric]) for run in runs] for side in ("baseline", "candidate"))
        differences = [y - x for x, y in zip(a, b, strict=True)]
        found[item.metric] = {
            "repeats_of_a_side_pct": 100 * float(np.mean([x.std(ddof=1) for x in a + b])),
            "pairs_pct": 100 * float(np.mean([d.std(ddof=1) for d in differences])),
            "medians_of_runs_pct": 100 * float(np.std([np.median(d) for d in differences], ddof=1)),
        }
    return found


def stored_baseline(runs: list[dict]) -> dict:
    """One run's baseline side held against another run's candidate side, minutes later, as a stored baseline would be."""
    counts = {"guarded": Counter(), "unguarded": Counter()}
    for i, old in enumerate(runs):
        for new in runs[i + 1 :]:
            a = np.array([old["baseline"][item.metric][:10] for item in RULES.primary])
            b = np.array([new["candidate"][item.metric][:10] for item in RULES.primary])
            counts["guarded"][state_of(judge(a, b, pairing="none"))] += 1
            sides = [(item, as_values(a[row], item), as_values(b[row], item)) for row, item in enumerate(RULES.primary)]
            counts["unguarded"][state_of(judge_all(sides, RULES, pairing="none"))] += 1
    return {name: dict(found) for name, found in counts.items()}
