"""The tables of kernel figures in README.md and docs/kernels.md, from the committed bench: `python tests/kernel_figures.py`."""

import json
from pathlib import Path

FOLDER = Path("results/baselines/kernels/h100-mixtral")
OURS = ("cuda-fragments-decode", "cuda-fragments-rows", "cuda-fragments-grouped")
README_TOKENS = (1, 4, 16, 64, 256, 1024, 4096)
COLUMNS = (
    ("**NVFP4, ours**", "nvfp4", OURS),
    ("Marlin NVFP4", "nvfp4", ("vllm-marlin",)),
    ("humming NVFP4", "nvfp4", ("humming",)),
    ("**MXFP4, ours**", "mxfp4", OURS),
    ("triton_kernels MXFP4", "mxfp4", ("triton-kernels",)),
    ("humming MXFP4", "mxfp4", ("humming",)),
    ("vLLM BF16", "bf16", ("vllm-bf16",)),
    ("**NVFP4 x FP8, ours**", "nvfp4", ("cuda-e4m3",)),
    ("**FP8 x FP8, ours**", "fp8", ("cuda-fp8",)),
    ("vLLM FP8", "fp8", ("vllm-fp8",)),
)
HEAD = "| tokens | " + " | ".join(name for name, _, _ in COLUMNS) + " |"


def bench_rows(folder: Path = FOLDER) -> list[dict]:
    """Every row of a committed bench."""
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def readme_rows() -> list[str]:
    """One line a number of tokens: the fastest of ours that the table of tuned choices would take, and the peers."""
    times = {(r["weights"], r["kernel"], r["tokens"]): r["us_median"] for r in bench_rows() if r["us_median"]}
    lines = []
    for tokens in README_TOKENS:
        cells = []
        for _, weights, kernels in COLUMNS:
            us = min(times[weights, kernel, tokens] for kernel in kernels if (weights, kernel, tokens) in times)
            cells.append(f"{us:.0f}" if us >= 100 else f"{us:.1f}")
        lines.append(f"| {tokens} | " + " | ".join(cells) + " |")
    return lines


def page_rows() -> list[str]:
    """The lines of table.md's FP4 tables, as docs/kernels.md prints them."""
    text = (FOLDER / "table.md").read_text(encoding="utf-8")
    sections = text.split("\n## ")[1:]
    return [line for s in sections if s.startswith(("NVFP4", "MXFP4")) for line in s.splitlines() if line.startswith("| ")]


if __name__ == "__main__":
    print("\n".join([HEAD, "|---" * (len(COLUMNS) + 1) + "|", *readme_rows()]))
