"""The study of the gate's error rates as a page: tables of counts with their exact intervals.

In: simulation.json's content. Out: Markdown. Intervals of rates: Clopper and Pearson, 95 %.
"""

import itertools
from collections import Counter

from scipy.stats import beta


def page(result: dict) -> str:
    """The document."""
    lines = [
        "# How often the gate is wrong",
        "",
        INTRO,
        "",
        HISTORY,
        "",
        EARLY,
        "",
        "## Real runs on this machine",
        "",
        *real_table(result["real"]),
    ]
    lines += ["", *each_run(result["real"]), "", "## How much this machine varies", "", *variation_table(result["variation"])]
    lines += ["", "## Simulated with that variation", "", *simulated_table(result["simulated"])]
    lines += ["", *metric_table(result["simulated"])]
    lines += ["", "## Stored baseline instead of interleaving", "", *stored_table(result["stored_baseline"])]
    return "\n".join(lines) + "\n"


STATES = ("regression", "inconclusive", "no regression")
INTRO = (
    "`python tests/studies/gate_study.py` on a virtual machine with 2 cores, shared with other work (load averages below). "
    "Every real run is a whole `harness gate scenarios/gate.yaml --ab COMMIT`: two checkouts, fresh workers, up to 60 "
    "interleaved repeats. A/A is the same code on both sides; in A/B every engine step of the candidate takes 10 % longer. "
    "Simulations draw blocks of real A/A pairs and run the gate's own decisions over them (tests/studies/gate_simulation.py)."
)
HISTORY = (
    "A/A and A/B were taken by the gate as it is. Runs of at most 30 repeats were taken while it was being built, most of them "
    "when the machine was busier. Of those A/A, 1 to 10 had fresh workers every ten repeats (1 to 6 with the baseline always "
    "started first), the later ones every five. All are judged by today's gate from their recorded repeats. In each of the "
    "first ten the candidate came out faster, and the gate of that time called it better in two: see "
    "docs/decisions/0042-fresh-workers.md for what was changed."
)
KINDS = {
    "aa": "A/A",
    "aa_30": "A/A, at most 30 repeats",
    "ab": "A/B, 10 % slower",
    "ab_30": "A/B, 10 % slower, at most 30 repeats",
    "ab_early": "A/B, 10 % slower, earlier rule",
}
EARLY = (
    "Runs of an earlier rule were taken by a gate that took pairs as independent: it called 20 of 20 a regression and stopped, "
    "most after 9 to 14 repeats. In simulation it also called 4.3 % of equal code worse, so today's gate asks for more; judged "
    "by it, what those short runs hold leaves many open."
)


def real_table(real: dict) -> list[str]:
    lines = [
        "| runs | n | regression | inconclusive | no regression | repeats | seconds a run | load average |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in kinds(real):
        if runs:
            states = Counter(run["state"] for run in runs)
            counts = [f"{states[key]}" for key in STATES]
            spans = [span([run[key] for run in runs]) for key in ("repeats", "seconds", "load_average")]
            lines.append(f"| {name} | {len(runs)} | {' | '.join(counts + spans)} |")
    return lines


def span(values: list) -> str:
    """`148 to 204`, or `60`."""
    return f"{min(values)} to {max(values)}" if min(values) < max(values) else f"{min(values)}"


def kinds(real: dict) -> list[tuple[str, list[dict]]]:
    return [(name, real.get(key, [])) for key, name in KINDS.items()]


def each_run(real: dict) -> list[str]:
    lines = ["Each run: measured slowdown in CPU time a step and in throughput, repeats a side, load average.", ""]
    lines += ["| run | answer | step, % | throughput, % | repeats | load |", "|---|---|---|---|---|---|"]
    for kind, runs in kinds(real):
        for number, run in enumerate(runs, start=1):
            step, rate = run["slowdown_pct"]["median_step_cpu_ms"], run["slowdown_pct"]["output_throughput"]
            lines.append(
                f"| {kind} {number} | {run['state']} | {step:+.1f} | {rate:+.1f} | {run['repeats']} | {run['load_average']} |"
            )
    return lines


def variation_table(found: dict) -> list[str]:
    lines = [
        "Standard deviations in percent; pairs are what the gate judges.",
        "",
        "| runs | metric | repeats of one side | ratio of interleaved pairs | medians of whole A/A runs |",
        "|---|---|---|---|---|",
    ]
    for source, by_metric in found.items():
        for name, row in by_metric.items():
            figures = (row["repeats_of_a_side_pct"], row["pairs_pct"], row["medians_of_runs_pct"])
            lines.append(f"| {KINDS[source]} | {name} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
    return lines


def simulated_table(simulated: list[dict]) -> list[str]:
    lines = [
        "Rates with 95 % intervals. Every A/A run went on to its last repeat, so all weigh alike.",
        "",
        "| variation of | blocks, runs | true slowdown | n | called a regression | inconclusive | called no regression | "
        "repeats, median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in simulated:
        head = f"{KINDS[row['source']]} | {row['num_blocks']}, {row['num_real_runs']} | {row['true_slowdown_pct']:g} %"
        cells = [rate(row["states"].get(key, 0), row["num"]) for key in STATES]
        lines.append(f"| {head} | {row['num']} | {' | '.join(cells)} | {row['median_repeats']:g} |")
    return lines


def metric_table(simulated: list[dict]) -> list[str]:
    names = ("worse", "inconclusive", "same", "better")
    lines = ["By metric, counts:", "", f"| variation of | true slowdown | metric | {' | '.join(names)} |", "|" + "---|" * 7]
    for row in simulated:
        for metric, found in row["verdicts"].items():
            counts = " | ".join(str(found.get(name, 0)) for name in names)
            lines.append(f"| {KINDS[row['source']]} | {row['true_slowdown_pct']:g} % | {metric} | {counts} |")
    return lines


def stored_table(stored: dict) -> list[str]:
    lines = [
        "Ten repeats of one A/A run held against ten of another, taken minutes apart, as a stored baseline would be; all are "
        "equal code, so every regression is a false alarm. The guard is `harness/gate/quiet.py`.",
        "",
        "| runs | | pairs of runs | called a regression | inconclusive | called no regression |",
        "|---|---|---|---|---|---|",
    ]
    for source, name in itertools.product(stored, ("unguarded", "guarded")):
        found = stored[source][name]
        total = sum(found.values())
        cells = [rate(found.get(key, 0), total) for key in STATES] if total else ["-"] * 3
        lines.append(f"| {KINDS[source]} | {name} | {total} | {' | '.join(cells)} |")
    return lines


def rate(count: int, total: int) -> str:
    """`0.15 % [0.03, 0.44]`."""
    low = beta.ppf(0.025, count, total - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, total - count) if count < total else 1.0
    return f"{100 * count / total:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"
