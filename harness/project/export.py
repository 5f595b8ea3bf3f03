"""Write data/calibration.json: layer times, whole-model times and qualities out of the committed records.

    python -m harness.project.export            every record under results/baselines, whatever is there
    python -m harness.project.export --check    exit 1 where the file is not what the records give

The projection and the advisor read that one file, so that they answer from an installed package too. It names the record
behind every figure. Layer times: kernel benches of mixtral-8x7b with uniform routing on a GPU. Whole-model times: request
cells of mixtral-8x7b on a GPU. Qualities: heldout cells.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.device import kind_of
from harness.errors import RunFolderError

BASELINES = Path("results/baselines")
TARGET = Path("harness/data/calibration.json")
MODEL = "mixtral-8x7b"
QUALITY = "quality-pocket-mixtral"
"""The folder whose perplexities ship."""
SPEEDS = ("output_throughput", "decode_throughput", "median_tpot_ms", "median_ttft_ms")
CHANGES = ("perplexity", "perplexity_change_pct", "perplexity_change_low_pct", "perplexity_change_high_pct")


def collect(root: Path = BASELINES) -> dict:
    """Everything that the projection takes from the records under `root`."""
    curves = [row for folder in sorted(root.glob("**/bench.json")) for row in _curves(folder.parent, root)]
    runs = [path.parent for path in sorted(root.glob("**/run.json"))]
    models = [row for folder in runs for row in model_rows(folder, _place(folder, root))]
    quality = [row for folder in runs if folder.name == QUALITY for row in quality_rows(folder, _place(folder, root))]
    return {"made_by": "python -m harness.project.export", "curves": curves, "models": models, "quality": quality}


def render(data: dict) -> str:
    """JSON, one row a line, so that a change shows as the lines that changed."""
    parts = [f' "made_by": {json.dumps(data["made_by"])}']
    for name in ("curves", "models", "quality"):
        rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in data[name])
        parts.append(f' "{name}": [\n{rows}\n ]' if rows else f' "{name}": []')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _curves(folder: Path, root: Path) -> Iterator[dict]:
    from harness.kernel_bench.results import read_bench

    bench = read_bench(folder)
    gpu = kind_of(str(bench.info["device"].get("name")))
    request = bench.info["request"]
    if request["model"] != MODEL or request["routing"] != "uniform" or gpu == "gpu":
        return
    groups: dict[tuple, list[list[float]]] = {}
    for row in bench.rows:
        if row["status"] == "ok" and not row["is_reference"]:
            key = (row["kernel"], row["weights"], row["activations"])
            if not (math.isfinite(row["us_median"]) and row["us_median"] > 0):
                where = f"{folder}/rows.jsonl: {row['kernel']} at {row['tokens']} tokens"
                rule = f"us_median must be a finite time above 0 (got {row['us_median']})"
                raise RunFolderError(f"{where}: {rule}; bench it again")
            groups.setdefault(key, []).append([row["tokens"], row["experts_hit"], round(row["us_median"], 3)])
    ceilings = bench.info["ceilings"]
    for (kernel, weights, activations), points in groups.items():
        yield {
            "gpu": gpu, "kernel": kernel, "weights": weights, "activations": activations, "points": sorted(points),
            "read_gb_s": round(ceilings["best_read_gb_s"], 1),
            "product_tflops": {name: round(rate, 1) for name, rate in ceilings["product_tflops"].items()},
            "source": _place(folder, root),
        }  # fmt: skip


def model_rows(folder: Path, source: str) -> Iterator[dict]:
    """Whole-model times of a run: closed request cells of mixtral-8x7b on a GPU."""
    from harness.record import read_run

    for record in read_run(folder).records:
        is_speed = record["status"] == "ok" and record["workload"]["kind"] == "requests"
        gpu = kind_of(str(record["target"]["name"]))
        if not is_speed or record["model"] != MODEL or gpu == "gpu" or record["verdict"]["state"] == "INVALID":
            continue
        workload = record["workload"]
        chosen = [row for row in record["implementation"] if row["op"] not in ("route",)]
        if any(row.get("is_reference") for row in chosen) or workload["arrival"].get("kind") != "closed":
            continue
        values = {name: _finite(record, name, source) for name in SPEEDS}
        yield {
            "gpu": gpu, "engine": record["backend"], "kernel": chosen[0]["chosen"] if chosen else "",
            "weights": record["precision"]["weights"], "activations": record["precision"]["activations"],
            "batch": min(workload["arrival"]["concurrency"], workload["num_requests"]),
            "prompt": workload["prompt_tokens"], "output": workload["output_tokens"], "repeat": record["repeat"],
        } | values | {"source": source}  # fmt: skip


def quality_rows(folder: Path, source: str) -> Iterator[dict]:
    """Perplexities of a run, with the routing counts of its BF16 cell."""
    from harness.record import read_run

    for record in read_run(folder).records:
        if record["status"] != "ok" or record["workload"]["kind"] != "heldout":
            continue
        values = {name: _finite(record, name, source) for name in CHANGES}
        layers = [layer["histogram"] for layer in (record.get("experts") or {}).get("layers", [])]
        extra = {"layer_counts": layers} if record["precision"]["weights"] == "bf16" else {}
        tokens = record["metrics"]["perplexity"]["n"]
        precision = {"model": record["model"], "precision": record["precision"]["id"]}
        yield precision | values | {"num_tokens": tokens, "source": source} | extra


def _finite(record: dict, name: str, source: str) -> float | None:
    """A metric's value, None where it was not measured; RunFolderError for what is no number."""
    value = (record["metrics"].get(name) or {}).get("value")
    if value is None or (isinstance(value, int | float) and math.isfinite(value)):
        return value
    where = f"{source}/records.jsonl: {record['cell_id']}, repeat {record['repeat']}"
    raise RunFolderError(f"{where}: {name} must be a finite number or null (got {value!r}); measure that cell again")


def _place(folder: Path, root: Path) -> str:
    return (BASELINES / folder.relative_to(root)).as_posix()


def main(arguments: list[str]) -> int:
    """Write the file, or with --check compare it."""
    try:
        text = render(collect())
    except RunFolderError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if "--check" in arguments:
        same = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
        print(f"{TARGET}: {'up to date' if same else 'not what the records give; run python -m harness.project.export'}")
        return 0 if same else 1
    TARGET.write_text(text, encoding="utf-8")
    print(f"{TARGET}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
