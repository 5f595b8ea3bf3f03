"""Kernel benches, expert usage, cache hit rates and projections as pandas tables, for notebooks.

In: folders, or names of GPUs. Out: one row an observation, typed columns with the unit in the name; not measured is NA.
Runs themselves are `harness.load_runs` (frames.py). pandas is imported when a function is called.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

    from harness.record.read import Run

BENCH_COLUMNS = (
    "gpu", "model", "kernel", "format", "weights", "activations", "is_peer", "tokens", "experts_hit", "routing",
    "us_median", "us_iqr", "limit_us", "limit_bound_by", "ratio_to_limit", "weight_gb_s", "tflops", "weight_bytes",
    "flops", "passed", "status",
)  # fmt: skip


def load_bench(paths: str | Path | Iterable[str | Path]) -> "pandas.DataFrame":
    """Rows of `harness kernels bench`, one a (GPU, kernel, format, tokens); intensity counts bytes of the experts hit."""
    import pandas

    from harness.kernel_bench.results import read_bench

    folders = [paths] if isinstance(paths, str | Path) else list(paths)
    rows = [{name: row[name] for name in BENCH_COLUMNS} for folder in folders for row in read_bench(folder).rows]
    table = pandas.DataFrame(rows, columns=list(BENCH_COLUMNS)).convert_dtypes()
    table["intensity_flop_per_byte"] = table["flops"] / table["weight_bytes"]
    return table


def load_experts(paths: Iterable[str | Path]) -> "pandas.DataFrame":
    """One row a (cell, repeat, layer, expert): slots, and its share of the layer's."""
    import pandas

    rows = []
    for run, record in _records(paths):
        for layer in (record.get("experts") or {}).get("layers", []):
            total = sum(layer["histogram"])
            for expert, slots in enumerate(layer["histogram"]):
                found = {"layer": layer["layer"], "expert": expert, "slots": slots, "share": slots / total if total else None}
                rows.append(_identity(run, record) | found)
    return pandas.DataFrame(rows).convert_dtypes()


def load_cache(paths: Iterable[str | Path]) -> "pandas.DataFrame":
    """One row a (cell, repeat, policy, slots a layer): hit rate of a cache of experts on the recorded routing."""
    import pandas

    rows = [
        _identity(run, record) | point
        for run, record in _records(paths)
        for point in (record.get("experts") or {}).get("cache", [])
    ]
    return pandas.DataFrame(rows).convert_dtypes()


def projections(
    gpus: Sequence[str], *, model: str = "mixtral-8x7b", prompt: int = 1024, output: int = 256, batch: int = 1
) -> "pandas.DataFrame":
    """PROJECTED figures, one row a (GPU, engine, kernel, metric), as `kind` says; `value` is NA where only a range is meant."""
    import pandas

    from harness.project.gpus import gpu_spec
    from harness.project.projection import Ask, model_by_name, project_all

    shape, rows = model_by_name(model), []
    for name in gpus:
        for made in project_all(gpu_spec(name), shape, Ask(prompt, output, batch)):
            head = {
                "gpu": made.gpu.name, "model": model, "engine": made.candidate.engine, "kernel": made.candidate.kernel,
                "precision": made.label, "weights": made.candidate.weights, "prompt_tokens": prompt, "output_tokens": output,
                "batch": batch, "max_batch": made.fit.max_batch, "reason": made.reason,
            }  # fmt: skip
            found = made.metrics.items() or [(None, None)]
            rows += [head | {"metric": metric} | ({} if est is None else est.to_json()) for metric, est in found]
    return pandas.DataFrame(rows).convert_dtypes()


def _records(paths: Iterable[str | Path]) -> Iterable[tuple["Run", dict]]:
    from harness.frames import load_run

    for path in paths:
        run = load_run(path)
        for record in run.records:
            yield run, record


def _identity(run: "Run", record: dict) -> dict:
    return {
        "run_id": run.run_id,
        "cell_id": record["cell_id"],
        "model": record["model"],
        "precision": record["precision"]["label"],
        "workload": record["workload"]["name"],
        "repeat": record["repeat"],
    }
