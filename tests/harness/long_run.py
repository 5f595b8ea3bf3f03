"""A synthetic run of ten minutes with samples as `harness run` writes them: 3 000 requests, 40 000 steps, telemetry at 10 Hz.

In: a folder. Out: the run's folder. The engine is a simulation of continuous batching; clocks fall in the seventh minute.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from harness.telemetry import store
from harness.telemetry.sample import DeviceFacts, Sample
from harness.telemetry.sampler import Telemetry
from report_fixture import A100, Spec, make_run

SECONDS = 600
SLOTS = 32
MS = 1_000_000


def make_long_run(folder: Path) -> Path:
    spec = Spec(precisions=("nvfp4",), workloads=("batch8",), target=A100, num_repeats=1, failing=())
    run = make_run(folder, spec)
    requests, steps = simulate()
    files = {
        "requests": ("samples/long-requests.parquet", requests),
        "steps": ("samples/long-steps.parquet", steps),
    }
    for name, rows in files.values():
        parquet.write_table(pa.Table.from_pylist(rows), run / name)
    store.write(run / "samples/long-telemetry.parquet", telemetry())
    (line,) = (run / "records.jsonl").read_text().splitlines()
    samples = {kind: name for kind, (name, _) in files.items()} | {"telemetry": "samples/long-telemetry.parquet"}
    (run / "records.jsonl").write_text(json.dumps(json.loads(line) | {"samples": samples}) + "\n")
    return run


def simulate() -> tuple[list[dict], list[dict]]:
    """Requests arrive at 5 a second; a prefill takes 30 ms, a decode step 8 to 16 ms by batch."""
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(1 / 5, 4000))
    arrivals = (arrivals[arrivals < SECONDS - 10] * 1e9).astype(np.int64)
    lengths = rng.integers(20, 130, len(arrivals))
    now, waiting, running, steps, rows = 0, 0, {}, [], {}
    while waiting < len(arrivals) or running:
        start = now
        if waiting < len(arrivals) and arrivals[waiting] <= now and len(running) < SLOTS:
            now += 30 * MS
            rows[waiting] = {"first_token_ns": now, "times": [now]}
            running[waiting] = int(lengths[waiting]) - 1
            steps.append(_step(steps, "prefill", start, now, 128, 1, rng))
            waiting += 1
        elif running:
            now += int((8 + len(running) / 4) * MS)
            for index in list(running):
                rows[index]["times"].append(now)
                running[index] -= 1
                if running[index] <= 0:
                    rows[index]["end_ns"] = now
                    del running[index]
            count = len(running) + 1
            steps.append(_step(steps, "decode", start, now, count, count, rng))
        else:
            now = int(arrivals[waiting])
    return [_request(index, int(arrivals[index]), row) for index, row in rows.items()], steps


def _step(steps: list, phase: str, start: int, end: int, tokens: int, requests: int, rng) -> dict:
    hit = 8 * (1 - 0.75 ** min(tokens, 60)) + float(rng.normal(0, 0.1))
    return {
        "index": len(steps), "phase": phase, "start_ns": start, "end_ns": end, "num_tokens": tokens, "num_requests": requests,
        "experts_hit": hit,
    }  # fmt: skip


def _request(index: int, scheduled: int, row: dict) -> dict:
    return {
        "request_id": f"request-{index}", "scheduled_ns": scheduled, "submitted_ns": scheduled + MS // 2,
        "first_token_ns": row["first_token_ns"], "end_ns": row["end_ns"], "prompt_tokens": 128,
        "asked_tokens": len(row["times"]), "output_tokens": len(row["times"]), "token_times_ns": row["times"],
    }  # fmt: skip


def telemetry() -> Telemetry:
    rng = np.random.default_rng(1)
    samples = []
    for index in range(SECONDS * 10):
        hot = 360 <= index / 10 < 420
        samples.append(
            Sample(
                index * 100 * MS,
                "gpu0",
                sm_clock_mhz=1275.0 if hot else 1980.0,
                utilization_pct=float(np.clip(rng.normal(88, 6), 0, 100)),
                power_w=float(rng.normal(420 if hot else 610, 15)),
                energy_j=index * 60.0,
                temperature_c=86.0 if hot else 64.0,
                throttle_reasons=0x40 if hot else 0,
                memory_used_bytes=31 * 10**9 + index * 10**5,
            )
        )
        samples.append(Sample(index * 100 * MS, "cpu", utilization_pct=50.0, rss_bytes=2 * 10**9))
    return Telemetry(samples, [DeviceFacts("gpu0", A100["name"], 1980.0, 700.0)], 10.0)
