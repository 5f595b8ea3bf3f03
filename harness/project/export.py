"""Write data/calibration.json: layer times, the P fitted to them, whole-model times and qualities, from the committed records.

    python -m harness.project.export            every record under results/baselines, whatever is there
    python -m harness.project.export --check    exit 1 where the file is not what the records give

The projection and the advisor read that one file, so that they answer from an installed package too. It names the record
behind every figure. Layer times: kernel benches of mixtral-8x7b with uniform routing on a GPU. Whole-model times: request
cells of mixtral-8x7b on a GPU. Qualities: heldout cells. P: of every measured GPU, published layer times included.
"""

import json
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.device import kind_of
from harness.errors import RunFolderError
from harness.project.curves import with_published
from harness.project.sharpness import fit_sharpness

BASELINES = Path("results/baselines")
TARGET = Path("harness/data/calibration.json")
MODEL = "mixtral-8x7b"
QUALITY = "quality-pocket-mixtral"
"""The folder whose perplexities ship."""
SPEEDS = ("output_throughput", "decode_throughput", "median_tpot_ms", "median_ttft_ms")
VLLM_KERNELS = {("nvfp4", "bf16"): "vllm-marlin", ("fp8", "fp8"): "vllm-fp8", ("bf16", "bf16"): "vllm-bf16"}
CHANGES = ("perplexity", "perplexity_change_pct", "perplexity_change_low_pct", "perplexity_change_high_pct")


def collect(root: Path = BASELINES) -> dict:
    """Everything that the projection takes from the records under `root`."""
    curves = [row for folder in sorted(root.glob("**/bench.json")) for row in _curves(folder.parent, root)]
    runs = [path.parent for path in sorted(root.glob("**/run.json"))]
    models = [row for folder in runs for row in model_rows(folder, _place(folder, root))]
    quality = [row for folder in runs if folder.name == QUALITY for row in quality_rows(folder, _place(folder, root))]
    sharpness = fit_sharpness(with_published(curves)).to_json()
    head = {"made_by": "python -m harness.project.export", "sharpness": sharpness}
    return head | {"curves": curves, "models": models, "quality": quality}


def render(data: dict) -> str:
    """JSON, one row a line, so that a change shows as the lines that changed."""
    parts = [f' "{name}": {json.dumps(data[name], allow_nan=False)}' for name in ("made_by", "sharpness")]
    for name in ("curves", "models", "quality"):
        rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in data[name])
        parts.append(f' "{name}": [\n{rows}\n ]' if rows else f' "{name}": []')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _curves(folder: Path, root: Path) -> Iterator[dict]:
    from harness.kernel_bench.limits import reached_tflops
    from harness.kernel_bench.results import read_bench

    bench = read_bench(folder)
    gpu = kind_of(str(bench.info["device"].get("name")))
    request = bench.info["request"]
    if request["model"] != MODEL or request["routing"] != "uniform" or gpu == "gpu":
        return
    groups: dict[tuple, list[list[float]]] = {}
    stale = _stale_kernels(bench.rows)
    for row in bench.rows:
        if row["status"] == "ok" and not row["is_reference"]:
            key = (row["kernel"], row["weights"], row["activations"])
            if not (math.isfinite(row["us_median"]) and row["us_median"] > 0):
                where = f"{folder}/rows.jsonl: {row['kernel']} at {row['tokens']} tokens"
                rule = f"us_median must be a finite time above 0 (got {row['us_median']})"
                raise RunFolderError(f"{where}: {rule}; bench it again")
            groups.setdefault(key, []).append([row["tokens"], row["experts_hit"], round(row["us_median"], 3)])
    ceilings = bench.info["ceilings"]
    products = reached_tflops(ceilings["product_tflops"], bench.rows)
    for (kernel, weights, activations), points in groups.items():
        yield {
            "gpu": gpu, "kernel": kernel, "weights": weights, "activations": activations, "points": sorted(points),
            "read_gb_s": round(ceilings["best_read_gb_s"], 1),
            "product_tflops": {name: round(rate, 1) for name, rate in products.items()},
            "source": _place(folder, root),
        } | ({"is_stale": True} if kernel in stale else {})  # fmt: skip


def _stale_kernels(rows: list[dict]) -> set[str]:
    """Our kernels whose sources are not those that were measured."""
    from harness.backends.moe_layer import experts_rows
    from harness.record.provenance import own_sources_sha256

    today = {row.name: own_sources_sha256(row) for row in experts_rows()}
    ours = [row for row in rows if not row["is_peer"] and row["own_sources_sha256"] is not None]
    return {row["kernel"] for row in ours if row["own_sources_sha256"] != today.get(row["kernel"])}


def model_rows(folder: Path, source: str) -> Iterator[dict]:
    """Whole-model times of a run: request cells of mixtral-8x7b on a GPU whose batch is known, the median over repeats."""
    from harness.record import read_run

    cells: dict[str, list[dict]] = {}
    for record in read_run(folder).records:
        if _is_whole_model(record) and batch_of(record["workload"]) is not None:
            cells.setdefault(record["cell_id"], []).append(record)
    for records in cells.values():
        first, workload = records[0], records[0]["workload"]
        precision = first["precision"]["weights"], first["precision"]["activations"]
        yield {
            "gpu": kind_of(str(first["target"]["name"])), "engine": first["backend"], "kernel": _kernel(first, precision),
            "weights": precision[0], "activations": precision[1], "arrival": workload["arrival"]["kind"],
            "batch": batch_of(workload), "prompt": workload["prompt_tokens"], "output": workload["output_tokens"],
            "repeats": len(records),
        } | {name: _median(records, name, source) for name in SPEEDS} | {"source": source}  # fmt: skip


def _is_whole_model(record: dict) -> bool:
    is_speed = record["status"] == "ok" and record["workload"]["kind"] == "requests" and record["model"] == MODEL
    if not is_speed or kind_of(str(record["target"]["name"])) == "gpu" or record["verdict"]["state"] == "INVALID":
        return False
    return not any(row.get("is_reference") for row in record["implementation"] or () if row["op"] != "route")


def batch_of(workload: dict) -> int | None:
    """Requests at once; None where requests arrive at a rate or lengths are drawn."""
    arrival = workload["arrival"]
    if not all(isinstance(workload.get(name), int) for name in ("prompt_tokens", "output_tokens", "num_requests")):
        return None
    limits = {"closed": arrival.get("concurrency"), "all_at_once": arrival.get("max_slots") or workload["num_requests"]}
    limit = limits.get(arrival["kind"])
    return None if limit is None else min(limit, workload["num_requests"])


def _kernel(record: dict, precision: tuple[str, str]) -> str:
    """The kernel whose layer curve belongs to the record; vLLM names its own by backend and formats."""
    if record["backend"].startswith("vllm"):
        return VLLM_KERNELS.get(precision, "")
    names = [row["chosen"] for row in record["implementation"] or () if row["op"] != "route"]
    return names[0] if names else ""


def _median(records: list[dict], name: str, source: str) -> float | None:
    values = [value for record in records if (value := _finite(record, name, source)) is not None]
    return round(statistics.median(values), 4) if values else None


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
