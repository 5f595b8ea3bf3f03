"""Tables and plots of invented rows: what they say, and that nothing unmeasured is drawn."""

import pytest

from harness.errors import RunFolderError
from harness.kernel_bench import plots
from harness.kernel_bench.render import render
from harness.kernel_bench.results import BenchWriter, read_bench
from harness.kernel_bench.table import format_tables, markdown
from kernel_bench_rows import curve, info
from kernel_bench_rows import row as invented_row


@pytest.fixture
def rows():
    made = curve("cuda-fragments-decode", 250, 5.6, up_to=128, layout="fragments")
    made += curve("cuda-fragments-grouped", 300, 1.1, layout="fragments")
    return made + curve("vllm-bf16", 960, 1.5, format_id="bf16-a16", is_peer=True, layout="vllm-bf16")


def test_a_table_a_format_with_the_fastest_in_bold(rows):
    first, second = format_tables(rows)
    assert (first.title, second.title) == ("NVFP4 x BF16", "BF16 x BF16")
    assert first.header[3:] == ["cuda-fragments-decode", "cuda-fragments-grouped"]
    assert first.fastest[0] == 3 and first.fastest[-1] == 4
    assert first.lines[0][3] == "62.5 (1.32x)"  # 250 us * (1 - 3/4) over 2 * 99.09 MB at 4200 GB/s
    assert "| **62.5 (1.32x)** |" in markdown(info(), rows)


def test_what_has_no_time_has_its_reason_below(rows):
    failed = invented_row("triton-grouped", 1, 99.0) | {"status": "failed check", "reason": "too far off", "passed": False}
    failed |= dict.fromkeys(("us_median", "us_iqr", "us_samples", "weight_gb_s", "tflops", "ratio_to_limit"))
    text = markdown(info(), [*rows, failed])
    assert "(1) triton-grouped, failed check: too far off" in text and "triton-grouped, NVFP4 x BF16: WRONG" in text
    assert "triton-w4a4 (nvfp4-a16): needs sm_100" in text


def test_a_kernel_that_beats_the_library_s_product_is_named(rows):
    note = "That BF16 product is not the most this device does: fast MXFP4 at 4096 tokens reached 802 TFLOP/s"
    assert note in markdown(info(), [*rows, invented_row("fast", 4096, 3600.0, format_id="mxfp4-a16")])
    assert "not the most" not in markdown(info(), rows)


def test_both_plots_are_drawn_and_a_kernel_keeps_its_color(rows):
    drawn = dict(plots.draw(info(), rows))
    assert drawn.keys() == {"roofline", "latency"} and all(png.startswith(b"\x89PNG") for png in drawn.values())
    known = plots.looks(rows)
    assert [look.is_dashed for look in known.values()] == [False, False, True]
    assert len({look.color for look in known.values()}) == 3


def test_a_host_without_matplotlib_gets_a_note_and_the_table(tmp_path, rows, monkeypatch):
    writer = BenchWriter(tmp_path / "b", info())
    for one in rows:
        writer.append(one)

    def missing(*_):
        raise ImportError("No module named 'matplotlib'")

    monkeypatch.setattr(plots, "draw", missing)
    (note,) = render(tmp_path / "b")
    assert "No module named 'matplotlib'" in note and "--render" in note
    assert (tmp_path / "b" / "table.md").exists() and not (tmp_path / "b" / "roofline.png").exists()


def test_a_torn_last_row_is_left_out_and_other_damage_is_named(tmp_path, rows):
    writer = BenchWriter(tmp_path / "b", info())
    writer.append(rows[0])
    file = tmp_path / "b" / "rows.jsonl"
    whole = file.read_text()
    file.write_text(whole + whole[: len(whole) // 2])
    assert len(read_bench(tmp_path / "b").rows) == 1
    file.write_text(whole[: len(whole) // 2] + "\n" + whole)
    with pytest.raises(RunFolderError, match="rows.jsonl:1"):
        read_bench(tmp_path / "b")


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="not a bench's folder"):
        read_bench(tmp_path)
