"""Committed results: readable, with provenance, and marked where the sources they measured have changed since."""

import hashlib
import json
from pathlib import Path

import pytest

KERNEL_RECORDS = sorted(Path("results/baselines/kernels").glob("*.jsonl"))


@pytest.mark.parametrize("path", KERNEL_RECORDS, ids=lambda path: path.stem)
def test_kernel_figures_are_of_the_current_source_or_marked_stale(path):
    head, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    checks = [row for row in rows if "passed" in row]
    assert checks and all(row["passed"] for row in checks), "no speed without correctness"
    current = hashlib.sha256(Path("kernels/fp4moe/cuda", head["source"]).read_bytes()).hexdigest()
    marked = f"STALE ({path.stem})" in Path("docs/kernels.md").read_text()
    is_stale = head["source_sha256"] != current
    assert is_stale == marked, f"{path}: measure again, or write 'STALE ({path.stem})' in docs/kernels.md exactly while it is"


@pytest.mark.parametrize("path", KERNEL_RECORDS, ids=lambda path: path.stem)
def test_kernel_page_prints_the_recorded_figures(path):
    page = Path("docs/kernels.md").read_text()
    for row in map(json.loads, path.read_text().splitlines()):
        if "us" in row:
            assert f"| {row['us']:.1f} | {row['limit_us']:.1f} | {row['ratio']:.2f} |" in page
