"""The whole way from a GPU's files to the block, its table and its roofline: graphs, old nsys, a current one, a damaged one."""

import pytest

from harness.profile.block import profile_block
from harness.profile.render import lines, rows
from harness.profile.roofline import by_name, points
from harness.profile.spans import Kernel, Span, Trace, apart
from profile_gpu import LAYERS, gpu_result


@pytest.fixture
def result(tmp_path):
    return gpu_result(tmp_path)


def block_of(tmp_path, result, nsys=None, under=None) -> dict:
    return profile_block(tmp_path, result, nsys, under, on_gpu=True)


def row(block: dict, *path: str) -> dict:
    return next(row for row in block["rows"] if tuple(row["path"]) == path)


def test_graph_replays_give_times_and_the_eager_step_gives_ranges(tmp_path, result):
    block = block_of(tmp_path, result)
    assert block["sources"]["host"] == "ranges in process" and "graph replays" in block["sources"]["gpu"]
    experts = row(block, "decode step", "layer", "experts")
    assert experts["gpu_ns"] == 59_000 and experts["count"] is None, "59 us in a replay; the host never saw it"
    step = row(block, "decode step")
    # 1.5 copy + 2 x (7 + 4 + 7 + 59) + 19 head
    assert step["gpu_ns"] == 174_500 and step["kernels"] == 10 and step["mean_ns"] == 60_000
    # gaps of a replay: 8.5 us after the copy, then 1 us after each kernel but the last
    assert step["gap_ns"] == 8_500 + 8 * 1_000
    assert experts["gpu_share"] == pytest.approx(2 * 59 / 174.5)
    assert row(block, "wait for the device")["total_ns"] == 4 * 220_000
    assert block["attributed"]["decode step"]["gpu"] == 1.0


def test_roofline_takes_gpu_time_and_tells_projections_from_attention(tmp_path, result):
    found = {point.name: point for point in by_name(points(block_of(tmp_path, result)))}
    experts, projections = found["experts"], found["attention projections"]
    assert experts.is_gpu and experts.us == pytest.approx(LAYERS * 59) and experts.num_bytes == LAYERS * 2 * 99e6
    assert experts.limit_us == pytest.approx(LAYERS * 66) and experts.bound_by == "read"
    assert projections.us == pytest.approx(LAYERS * 14), "two calls a layer"
    assert found["attention"].num_bytes == LAYERS * 2 * 528 * 8 * 128 * 2


def test_without_replays_the_eager_times_count(tmp_path, result):
    del result["passes"][2]["samples"]["replays"]
    block = block_of(tmp_path, result)
    assert row(block, "decode step", "layer", "experts")["gpu_ns"] == 60_000 and block["sources"]["gpu"] == "torch profiler"


def test_kernels_that_overlap_add_up_to_the_time_that_the_gpu_was_busy():
    """b starts inside a and waits for it; c lies wholly inside b; d comes after a gap."""
    ran = [Kernel("a", 0, 100, 1), Kernel("b", 10, 150, 2), Kernel("c", 120, 140, 3), Kernel("d", 160, 170, 4)]
    found = apart(reversed(ran))
    assert [(kernel.name, kernel.duration_ns) for kernel in found] == [("a", 100), ("b", 50), ("c", 0), ("d", 10)]
    assert sum(kernel.duration_ns for kernel in found) == 160, "0 to 150 and 160 to 170"


def old_nsys() -> Trace:
    """NVTX whole, one kernel of sixty."""
    spans = [Span("decode step", at, at + 70_000, 9) for at in range(0, 900_000, 100_000)]
    return Trace("nsys", tuple(spans), (Kernel("gemm", 5, 9, 3),), 60)


def test_old_nsys_gives_the_host_and_the_torch_profiler_the_kernels(tmp_path, result):
    block = block_of(tmp_path, result, old_nsys(), [{"name": "nvtx", "decode_s": [3e-4] * 9, "samples": {}}])
    assert block["sources"]["host"] == "nsys" and "torch profiler" in block["sources"]["gpu"]
    assert row(block, "decode step")["mean_ns"] == 70_000 and row(block, "decode step")["kernels"] == 10
    assert any("1 of 60 launches have theirs" in note for note in block["notes"])
    assert any(one["what"] == "nsys on" for one in block["overhead"])


def test_current_nsys_gives_both(tmp_path, result):
    kernels = tuple(Kernel("gemm", at + 80_000, at + 99_000, at + 5) for at in range(0, 900_000, 100_000))
    seen = Trace("nsys", old_nsys().spans, kernels, 9)
    block = block_of(tmp_path, result, seen, [])
    assert block["sources"] == {"host": "nsys", "gpu": "nsys", "no_gpu": ""} and row(block, "decode step")["gpu_ns"] == 19_000


def test_nsys_without_our_ranges_is_left_out_and_said(tmp_path, result):
    block = block_of(tmp_path, result, Trace("nsys", (), None, 0, no_kernels="none"), [])
    assert block["sources"]["host"] == "ranges in process"
    assert any("no range of ours" in note for note in block["notes"])


def test_table_and_lines_for_a_reader(tmp_path, result):
    block = block_of(tmp_path, result) | {"ncu": None}
    shown = {cells[0].strip(): cells for cells in rows(block)}
    assert shown["experts"][1] == "–" and shown["experts"][7] == "59.0" and shown["experts"][8] == "67.6 %"
    text = " ".join(lines(block))
    assert "inside a CUDA graph" in text and "+0.7 % of off" in text
    assert "50.0 % of the host time and 100.0 % of the GPU time of the range decode step lies in ranges inside it" in text
    assert "its host time is that of the launch alone, 60.0 us" in text, "prepare 10 and graph replay 20 of 60"


def test_the_host_s_share_is_of_the_whole_step_with_the_waiting(tmp_path, result):
    """Every 3 ms a step: 30 us of its launch and 220 us of waiting are named. The price of a range counts them all."""
    block = block_of(tmp_path, result) | {"ncu": None}
    text = " ".join(lines(block))
    assert (
        "From one decode step to the next the host's thread spends 3,000.0 us (mean of 2): wait for the device 7.3 %, "
        "decode step (the launch) 1.0 %, between ranges 91.7 %. So 8.3 % of a decode step's time lies in named ranges." in text
    )
    assert block["cost"]["ranges_a_step"] == 4 and "nvtx_share" not in block["cost"]
    seen = [{"name": "nvtx", "decode_s": [3e-4] * 9, "samples": {}}]
    spans = tuple(Span("decode step", at, at + 70_000, 9) for at in range(0, 900_000, 100_000))
    nsys = Trace("nsys", spans, None, 0, no_kernels="not traced")
    priced = profile_block(tmp_path, result, nsys, seen, on_gpu=True, nsys_cost={"off_ns": 1.0, "nvtx_ns": 2000.0})
    assert priced["cost"]["off_ns"] == 200.0, "of the process without nsys"
    assert "1 ranges a decode step at 800 ns each are 0.28 % of it; under nsys, 2000 ns each, 0.69 %" in " ".join(lines(priced))
