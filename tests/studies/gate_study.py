"""The gate's error rates: real A/A and A/B runs on this machine, then simulations with the variation they showed.

    python tests/studies/gate_study.py real aa --runs 20 --out DIR      the same code on both sides
    python tests/studies/gate_study.py real ab --runs 20 --out DIR      the candidate takes 10 % longer a decode step
    python tests/studies/gate_study.py simulate aa --real DIR --out DIR 2000 comparisons each of A/A and of 5 % slower
    python tests/studies/gate_study.py page --real DIR --out DIR        the page again, with the real runs there are by now

In: this checkout (committed; sides are worktrees of it). Out: DIR/aa.json, ab.json (a row a run: verdicts, exit code, the
figures of every repeat), simulation.json, study.md. `real` continues where DIR already holds runs; `simulate aa_30` draws
from runs that stopped at 30 repeats. No test runs this.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = ROOT / "scenarios" / "gate.yaml"
TIMED = ("median_step_cpu_ms", "median_itl_ms", "output_throughput")
DELAY = '''

_undelayed_step = Engine.step


def _delayed_step(self):
    """Keep the processor busy for a tenth of what the step took, before the step is said to have ended."""
    started = time.perf_counter_ns()
    cpu_started = time.process_time_ns()
    result = _undelayed_step(self)
    until = time.process_time_ns() + (time.process_time_ns() - cpu_started) // 10
    while time.process_time_ns() < until:
        pass
    extra = time.perf_counter_ns() - started
    return dataclasses.replace(result, end_ns=result.start_ns + extra)


Engine.step = _delayed_step
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    real = parts.add_parser("real")
    real.add_argument("kind", choices=["aa", "ab"])
    real.add_argument("--runs", type=int, default=20)
    real.add_argument("--out", type=Path, required=True)
    simulate = parts.add_parser("simulate")
    simulate.add_argument("source", choices=["aa", "aa_30"])
    simulate.add_argument("--real", type=Path, required=True)
    simulate.add_argument("--num", type=int, default=2000)
    simulate.add_argument("--out", type=Path, required=True)
    page = parts.add_parser("page")
    page.add_argument("--real", type=Path, required=True)
    page.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.part == "real":
        run_real(arguments.kind, arguments.runs, arguments.out)
        return
    from gate_simulation import rewrite, run_simulation

    if arguments.part == "simulate":
        run_simulation(arguments.real, arguments.out, source=arguments.source, num=arguments.num)
    else:
        rewrite(arguments.real, arguments.out)


def run_real(kind: str, num_runs: int, out: Path) -> None:
    """Gate a checkout against another of the same commit, `num_runs` times, with or without the delay."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{kind}.json"
    rows = json.loads(path.read_text())["runs"] if path.exists() else []
    with tempfile.TemporaryDirectory(prefix="gate-study-") as folder:
        tree = make_tree(Path(folder) / "candidate", delayed=kind == "ab")
        try:
            for number in range(len(rows), num_runs):
                rows.append(one_run(tree, Path(folder) / f"run-{number}"))
                path.write_text(json.dumps({"kind": kind, "runs": rows}, separators=(",", ":")) + "\n")
                print(
                    f"{kind} {number}: exit {rows[-1]['exit_code']} {rows[-1]['verdicts']} {rows[-1]['seconds']} s", flush=True
                )
        finally:
            git("worktree", "remove", "--force", str(tree))


def make_tree(path: Path, *, delayed: bool) -> Path:
    """A worktree of HEAD; with the delay committed on top where asked."""
    git("worktree", "add", "--detach", "--quiet", str(path), "HEAD")
    if delayed:
        engine = path / "kernels" / "fp4moe" / "runtime" / "engine.py"
        text = engine.read_text().replace("import time\n", "import dataclasses\nimport time\n", 1)
        engine.write_text(text + DELAY)
        git("-c", "user.name=study", "-c", "user.email=study@example.org", "commit", "-qam", "Delay", where=path)
    return path


def one_run(tree: Path, out: Path) -> dict:
    """`harness gate` from the candidate's tree, against this checkout's commit."""
    import os

    base = git("rev-parse", "HEAD")
    environment = os.environ | {"PYTHONPATH": f"{tree}:{tree / 'kernels'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness", "gate", str(SCENARIO), "--ab", base, "--out", str(out), "--json"]
    command += ["--only", "workload=single"]  # the exact figures of the quality cell take time and have no noise
    started = time.monotonic()
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if not done.stdout:
        raise SystemExit(done.stderr)
    result = json.loads(done.stdout)
    timed = [outcome for outcome in result["outcomes"] if outcome["judgement"]]
    return {
        "exit_code": done.returncode,
        "seconds": round(time.monotonic() - started),
        "load_average": round(os.getloadavg()[0], 1),
        "state": result["state"],
        "verdicts": {o["metric"]: o["judgement"]["verdict"] for o in timed},
        "slowdown_pct": {o["metric"]: round(100 * (slowdown(o["judgement"]) - 1), 2) for o in timed},
        "exact_states": {o["metric"]: o["state"] for o in result["outcomes"] if o["exact"]},
        "baseline": values(out / "baseline"),
        "candidate": values(out / "candidate"),
    }


def slowdown(judgement: dict) -> float:
    ratio = judgement["ratio"]
    return 1 / ratio if judgement["direction"] == "higher" else ratio


def values(run: Path) -> dict[str, list[float]]:
    """Each timed metric's repeats, to six digits."""
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    timed = [record for record in records if record["workload"]["kind"] == "requests"]
    return {name: [float(f"{record['metrics'][name]['value']:.6g}") for record in timed] for name in TIMED}


def git(*arguments: str, where: Path = ROOT) -> str:
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
