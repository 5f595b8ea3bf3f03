"""README's table of whole-model figures, from the committed records: `python tests/mixtral_figures.py`."""

from collections import defaultdict
from pathlib import Path
from statistics import median

from harness import load_run

BASELINES = Path("results/baselines")
H100, FORMATS = "mixtral-8x7b-h100", "mixtral-8x7b-h100-formats"
H200 = "mixtral-8x7b-h200"
COLUMNS = (
    ("**NVFP4, ours**", H100, "native", "nvfp4-search-a16"),
    ("NVFP4, vLLM 0.24", H100, "vllm", "nvfp4-search-a16"),
    ("**MXFP4, ours**", FORMATS, "native", "mxfp4-search-a16"),
    ("**NVFP4 x FP8, ours**", FORMATS, "native", "nvfp4-search-a8"),
    ("**FP8 x FP8, ours**", FORMATS, "native", "fp8-absmax-a8"),
    ("H200: **NVFP4, ours**", H200, "native", "nvfp4-search-a16"),
    ("H200: BF16, vLLM 0.24", H200, "vllm", "bf16-a16"),
)
HEAD = "| | " + " | ".join(name for name, *_ in COLUMNS) + " |"
BATCHES = ("batch1", "batch8", "batch32", "batch128", "batch256")
FIRST = (("first token of 1024", ("first1024",)), ("first token of 2048 (beside vLLM 2046)", ("first2048", "first2046")))


def figures() -> dict[tuple[str, str, str, str, str], float]:
    """(folder, backend, precision, workload, metric) -> median over the repeats that ended."""
    found = defaultdict(list)
    for folder in (H100, FORMATS, H200):
        for record in load_run(BASELINES / folder).records:
            if record["status"] == "ok":
                place = folder, record["backend"], record["precision"]["id"], record["workload"]["name"]
                for metric in ("output_throughput", "median_ttft_ms", "weight_bytes"):
                    found[(*place, metric)].append(record["metrics"][metric]["value"])
    return {key: median(values) for key, values in found.items()}


def rows() -> list[str]:
    """One line a load point, then the weights."""
    known = figures()

    def line(name: str, workloads: tuple[str, ...], metric: str, show) -> str:
        cells = [
            next(show(known[(*place, workload, metric)]) for workload in workloads if (*place, workload, metric) in known)
            for _, *place in COLUMNS
        ]
        return f"| {name} | " + " | ".join(cells) + " |"

    return [
        *(line(name.replace("batch", "batch "), (name,), "output_throughput", "{:.0f}".format) for name in BATCHES),
        *(line(name, workloads, "median_ttft_ms", "{:.0f} ms".format) for name, workloads in FIRST),
        line("weights", ("batch1",), "weight_bytes", lambda size: f"{size / 1e9:.1f} GB"),
    ]


if __name__ == "__main__":
    print("\n".join([HEAD, "|---" * (len(COLUMNS) + 1) + "|", *rows()]))
