"""Benchmark of the load client against aiperf and guidellm, on the same mock, in one interleaved run.

Not a test: run by hand where the tools are installed, each in an environment of its own.

    python tests/bench_client.py --aiperf /path/to/bin/aiperf --guidellm /path/to/bin/guidellm --rounds 3 > bench.md

In: paths of the tools. Out: a Markdown table. Two settings: capacity (256 streams x 16 tokens, no delay) and times
(32 streams, TTFT 50 ms, ITL 10 ms). Requests a second are counted at the server, from the first request that it took in to
the last token that it sent, for every tool alike; TTFT is what a tool says, beside what the server did. A fresh mock serves
each run, and the tools take turns.
"""

import argparse
import contextlib
import fcntl
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.client import ClientOptions, Endpoint, PlannedRequest, run_load
from harness.collect.load import load_figures
from harness.mock import MockOptions, serve_mock

PROMPT_TOKENS, TOKENS, TIMEOUT_S = 32, 16, 300
MS = 1e6


@dataclass(frozen=True)
class Setting:
    """What to send, and how the mock answers."""

    name: str
    streams: int
    requests: int
    ttft_ms: float
    itl_ms: float


CAPACITY = Setting("capacity", 256, 2048, 0.0, 0.0)
TIMES = Setting("times", 32, 320, 50.0, 10.0)


@dataclass(frozen=True)
class Result:
    """One run of one tool: requests a second at the server, TTFT said and true, seconds from call to end."""

    requests_per_s: float
    said_ttft_ms: float
    true_ttft_ms: float
    call_s: float


def ours(url: str, setting: Setting, folder: Path, _: argparse.Namespace) -> float:
    """Mean TTFT by our client."""
    planned = [PlannedRequest(f"b-{i}", tuple(range(PROMPT_TOKENS)), TOKENS, None) for i in range(setting.requests)]
    result = run_load(Endpoint(url, "mock"), planned, ClientOptions(concurrency=setting.streams), folder=folder)
    figures = load_figures(result)
    assert figures.block["num_failed"] == 0
    return figures.metrics["mean_ttft_ms"]["value"]


def aiperf(url: str, setting: Setting, folder: Path, options: argparse.Namespace) -> float:
    """Mean TTFT by aiperf."""
    command = [options.aiperf, "profile", "-m", "mock", "-u", url, "--endpoint-type", "completions", "--streaming"]
    command += ["--tokenizer", options.tokenizer, "--use-server-token-count", "--export-level", "summary", "--no-auto-plot"]
    command += ["--concurrency", str(setting.streams), "--request-count", str(setting.requests), "--ui", "none"]
    command += ["--isl", str(PROMPT_TOKENS), "--osl", str(TOKENS), "--artifact-dir", str(folder)]
    _call(command)
    return json.loads((folder / "profile_export_aiperf.json").read_text())["time_to_first_token"]["avg"]


def guidellm(url: str, setting: Setting, folder: Path, options: argparse.Namespace) -> float:
    """Mean TTFT by guidellm."""
    out = folder / "out.json"
    command = [options.guidellm, "run", "--disable-console", "--output", f"kind=json,path={out}"]
    command += ["--backend", f"kind=openai_http,target={url},model=mock,request_format=/v1/completions"]
    command += ["--profile", f"kind=concurrent,streams={setting.streams}"]
    command += ["--constraint", f"kind=max_requests,count={setting.requests}"]
    command += ["--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={TOKENS}"]
    command += ["--tokenizer", f"kind=huggingface_auto,model={options.tokenizer}"]
    _call(command)
    metrics = json.loads(out.read_text())["benchmarks"][0]["metrics"]
    return metrics["time_to_first_token_ms"]["successful"]["mean"]


TOOLS: dict[str, Callable[..., float]] = {"harness": ours, "aiperf": aiperf, "guidellm": guidellm}


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def run_once(tool: str, setting: Setting, options: argparse.Namespace) -> Result:
    """One run against a fresh mock."""
    mock = MockOptions(ttft_ms=setting.ttft_ms, itl_ms=setting.itl_ms)
    with tempfile.TemporaryDirectory() as folder, serve_mock(mock) as server:
        began = time.monotonic()
        said = TOOLS[tool](server.url, setting, Path(folder), options)
        call_s = time.monotonic() - began
        with urllib.request.urlopen(f"{server.url}/mock/stats") as answer:
            stats = json.loads(answer.read())
    wall_s = (stats["last_sent_ns"] - stats["first_received_ns"]) / 1e9
    true_ms = stats["ttft_sum_ns"] / stats["num_ended"] / MS
    return Result(stats["num_ended"] / wall_s, said, true_ms, call_s)


def spread(values: list[float], digits: int) -> str:
    """Median, and min to max."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def row(tool: str, found: dict, base: dict) -> str:
    """One line of the table; the ratio is that of each round, whose runs shared the machine's state."""
    capacity, times = found[CAPACITY.name], found[TIMES.name]
    ratios = [ours.requests_per_s / theirs.requests_per_s for ours, theirs in zip(base[CAPACITY.name], capacity, strict=True)]
    error = [r.said_ttft_ms - r.true_ttft_ms for r in times]
    rates = [r.requests_per_s for r in capacity]
    cells = [tool, spread(rates, 0), spread(ratios, 1), spread([r.said_ttft_ms for r in times], 2)]
    return "| " + " | ".join([*cells, spread(error, 2), spread([r.call_s for r in capacity], 1)]) + " |"


@contextlib.contextmanager
def held(path: Path | None):
    """Hold an exclusive lock on a file, if one is named."""
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Run every tool in turn, `rounds` times, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--aiperf", help="Path of the aiperf command; left out where not given")
    parser.add_argument("--guidellm", help="Path of the guidellm command; left out where not given")
    parser.add_argument("--tokenizer", default="kernels/fp4moe/pocket/data", help="A tokenizer folder, for tools that need one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lock", type=Path, help="A file to hold a lock on during each round, where others use this machine")
    options = parser.parse_args()
    options.tokenizer = str(Path(options.tokenizer).resolve())
    tools = [tool for tool in TOOLS if tool == "harness" or getattr(options, tool)]
    results = {tool: {setting.name: [] for setting in (CAPACITY, TIMES)} for tool in tools}
    for number in range(options.rounds):
        with held(options.lock):
            for setting, tool in itertools.product((CAPACITY, TIMES), tools):
                result = run_once(tool, setting, options)
                results[tool][setting.name].append(result)
                print(f"round {number}, {setting.name}, {tool}: {result}", file=sys.stderr, flush=True)
    print("| tool | requests/s at 256 streams | harness is faster by | mean TTFT said, ms | said - true, ms | whole call, s |")
    print("|---|---|---|---|---|---|")
    for tool in tools:
        print(row(tool, results[tool], results["harness"]))


if __name__ == "__main__":
    main()
