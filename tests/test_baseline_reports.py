"""Committed reports are what today's code makes of their records: ceilings of a newer bench reach them too."""

from pathlib import Path

import pytest

from harness.report import write_reports

FOLDERS = sorted(path.parent for path in Path("results/baselines").glob("*/report.md") if (path.parent / "run.json").exists())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_report_is_todays(folder, tmp_path):
    write_reports([folder], tmp_path)
    fresh = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert fresh == (folder / "report.md").read_text(encoding="utf-8"), f"run `harness report {folder} --out {folder}`"


def test_there_are_reports_to_hold():
    assert len(FOLDERS) >= 10
