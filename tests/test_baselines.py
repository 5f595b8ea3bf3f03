"""Committed kernel benches: right before fast, printed as recorded, and marked where the sources they measured have changed."""

from pathlib import Path

import pytest
from kernel_figures import HEAD, bench_rows, page_rows, readme_rows

from fp4moe.select import IMPLEMENTATIONS
from harness.kernel_bench.rows import validate
from harness.record.provenance import own_sources_sha256

FOLDERS = sorted(path.parent for path in Path("results/baselines/kernels").glob("*/rows.jsonl"))
PAGE = Path("docs/kernels.md").read_text(encoding="utf-8")
README = Path("README.md").read_text(encoding="utf-8")
ROWS = {row.name: row for row in IMPLEMENTATIONS if row.op == "experts"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_speed_without_correctness(folder):
    rows = bench_rows(folder)
    assert rows
    for row in rows:
        validate(row)
        assert row["us_median"] is None or row["passed"] or row["not_checked"], row["kernel"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_figures_are_of_the_current_sources_or_marked_stale(folder):
    """`STALE (bench: kernel)` stands on the page and in README exactly while a kernel's own sources differ."""
    recorded = {row["kernel"]: row["own_sources_sha256"] for row in bench_rows(folder) if not row["is_peer"]}
    assert recorded
    for kernel, sha256 in recorded.items():
        is_stale = sha256 != own_sources_sha256(ROWS[kernel])
        mark = f"STALE ({folder.name}: {kernel})"
        for name, text in (("docs/kernels.md", PAGE), ("README.md", README)):
            assert is_stale == (mark in text), f"{name}: measure again, or write '{mark}' there exactly while it is so"


def test_the_page_prints_the_recorded_figures():
    lines = page_rows()
    assert lines
    for line in lines:
        assert line in PAGE


def test_readme_prints_the_recorded_figures():
    assert HEAD in README
    for line in readme_rows():
        assert line in README, "run `python tests/kernel_figures.py` and paste its output"
