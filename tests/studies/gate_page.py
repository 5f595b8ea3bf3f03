"""The study of the gate's error rates as a page: tables of counts with their exact intervals.

In: simulation.json's content. Out: Markdown. Intervals of rates: Clopper and Pearson, 95 %.
"""

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
        "## Real runs on this machine",
        "",
        *real_table(result["real"]),
    ]
    lines += ["", *each_run(result["real"]), "", "## How much this machine varies", "", *variation_table(result)]
    lines += ["", "## Simulated with that variation", "", *simulated_table(result), "", *metric_table(result)]
    lines += ["", "## Stored baseline instead of interleaving", "", *stored_table(result)]
    return "\n".join(lines) + "\n"


STATES = ("regression", "inconclusive", "no regression")
INTRO = (
    "`python tests/studies/gate_study.py` on a virtual machine with 2 cores that other work shared all the time. Every real "
    "run is a whole `harness gate scenarios/gate.yaml --ab COMMIT`: two checkouts, fresh workers, up to 60 interleaved "
    "repeats. A/A is the same code on both sides; in A/B every engine step of the candidate takes 10 % longer. Simulations "
    "draw blocks of real A/A pairs and run the gate's own decisions over them (tests/studies/gate_simulation.py)."
)
HISTORY = (
    "The A/A runs, and A/B ones of at most 30 repeats, were taken while the gate was being built, to 30 repeats. A/A 1 to 10 "
    "had fresh workers every ten repeats (A/A 1 to 6 with the baseline always started first), the later ones as the gate is "
    "now. All are judged here by today's gate from their recorded repeats. In each of the first ten the candidate came out "
    "faster, and the gate of that time called it better in two: see docs/decisions/0042-fresh-workers.md for what was changed."
)
KINDS = {
    "aa": "A/A",
    "ab": "A/B, 10 % slower",
    "ab_30": "A/B, 10 % slower, at most 30 repeats",
    "ab_early": "A/B, 10 % slower, earlier rule",
}
EARLY = (
    "A/B runs taken with an earlier rule, which took pairs as independent: that gate called 20 of 20 a regression and stopped, "
    "most after 9 to 14 repeats. In simulation it also called 4.3 % of equal code worse, so today's gate asks for more; judged "
    "by it, what those short runs hold leaves many open."
)


def real_table(real: dict) -> list[str]:
    lines = [
        "| runs | n | regression | inconclusive | no regression | seconds a run | load average |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in kinds(real):
        if runs:
            states = Counter(run["state"] for run in runs)
            counts = [f"{states[key]}" for key in STATES]
            seconds, loads = sorted(run["seconds"] for run in runs), sorted(run["load_average"] for run in runs)
            spans = f"{seconds[0]} to {seconds[-1]} | {loads[0]} to {loads[-1]}"
            lines.append(f"| {name} | {len(runs)} | {' | '.join(counts)} | {spans} |")
    return lines


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


def variation_table(result: dict) -> list[str]:
    lines = [
        "Standard deviations in percent; pairs are what the gate judges.",
        "",
        "| metric | repeats of one side | ratio of interleaved pairs | medians of whole A/A runs |",
        "|---|---|---|---|",
    ]
    for name, row in result["variation"].items():
        figures = (row["repeats_of_a_side_pct"], row["pairs_pct"], row["medians_of_runs_pct"])
        lines.append(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
    return lines


def simulated_table(result: dict) -> list[str]:
    lines = [
        f"{result['num_blocks']} real blocks from {result['num_real_runs']} A/A runs. Rates with 95 % intervals.",
        "",
        "| true slowdown | n | called a regression | inconclusive | called no regression | repeats, median |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["simulated"]:
        cells = [rate(row["states"].get(key, 0), row["num"]) for key in STATES]
        lines.append(f"| {row['true_slowdown_pct']:g} % | {row['num']} | {' | '.join(cells)} | {row['median_repeats']:g} |")
    return lines


def metric_table(result: dict) -> list[str]:
    names = ("worse", "inconclusive", "same", "better")
    lines = ["By metric, counts:", "", "| true slowdown | metric | " + " | ".join(names) + " |", "|---|---|---|---|---|---|"]
    for row in result["simulated"]:
        for metric, found in row["verdicts"].items():
            counts = " | ".join(str(found.get(name, 0)) for name in names)
            lines.append(f"| {row['true_slowdown_pct']:g} % | {metric} | {counts} |")
    return lines


def stored_table(result: dict) -> list[str]:
    lines = [
        "Ten repeats of one A/A run held against ten of another, taken minutes apart, as a stored baseline would be; all are "
        "equal code, so every regression is a false alarm. The guard is `harness/gate/quiet.py`.",
        "",
        "| | pairs of runs | called a regression | inconclusive | called no regression |",
        "|---|---|---|---|---|",
    ]
    for name in ("unguarded", "guarded"):
        found = result["stored_baseline"][name]
        total = sum(found.values())
        cells = [rate(found.get(key, 0), total) for key in STATES] if total else ["-"] * 3
        lines.append(f"| {name} | {total} | {' | '.join(cells)} |")
    return lines


def rate(count: int, total: int) -> str:
    """`0.15 % [0.03, 0.44]`."""
    low = beta.ppf(0.025, count, total - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, total - count) if count < total else 1.0
    return f"{100 * count / total:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"
