"""From spans and kernels to the table: nesting, parts that add up, kernels by range, graphs, and what is said of lost rows."""

import pytest

from harness.errors import ProfileError
from harness.profile.by_path import idle_ns
from harness.profile.graph import replayed_in_ranges
from harness.profile.layers import layer_times
from harness.profile.spans import Kernel, Span
from harness.profile.table import tabulate
from harness.profile.tree import nest
from profile_traces import kernels, step, trace


def test_self_times_add_up_to_the_whole():
    found = tabulate(trace([*step(), *step(5000)]), None)
    whole = found.row("decode step").host
    assert (whole.count, whole.total_ns, whole.p50_ns) == (2, 2000, 1000)
    assert sum(row.host.self_ns for row in found.rows) == whole.total_ns
    assert found.row("decode step", "layer", "experts").host.self_ns == 4 * 100


def test_rows_stand_below_what_they_lie_in():
    names = [row.path[-1] for row in tabulate(trace(step()), None).rows]
    assert names == ["decode step", "layer", "attention", "experts", "gate-up GEMM", "sampling"]


def test_attribution_leaves_out_what_only_holds_others():
    # Of 1000 ns: attention 2 x 100, gate-up 2 x 150, sampling 100 are named work; the rest is containers' own time.
    assert tabulate(trace(step()), None).attributed("decode step") == {"host": pytest.approx(0.6)}
    assert tabulate(trace(step()), None).attributed("prefill") == {}
    fused = [span for span in step() if span.name != "gate-up GEMM"]  # experts that hold no range are the work itself
    assert tabulate(trace(fused), None).attributed("decode step") == {"host": pytest.approx(0.8)}


def test_prefill_and_decode_are_apart():
    spans = [Span("cell", 0, 10_000), *step(10), Span("prefill", 2000, 3000), Span("attention", 2100, 2500)]
    found = tabulate(trace(spans), None)
    assert found.row("prefill", "attention").host.total_ns == 400
    assert found.row("decode step", "layer", "attention").host.count == 2
    assert found.row("cell") is None


def test_kernels_belong_to_the_range_that_launched_them_and_to_those_around_it():
    seen = trace([*step(), *step(5000)], [*kernels(), *kernels(5000)])
    found = tabulate(seen, seen)
    assert found.sources["gpu"] == "test"
    whole = found.row("decode step").to_json()
    assert (whole["kernels"], whole["gpu_ns"], whole["gap_ns"], whole["gpu_share"]) == (6, 140, 25, 1.0)
    gemm = found.row("decode step", "layer", "experts", "gate-up GEMM").to_json()
    assert (gemm["kernels"], gemm["gpu_ns"], gemm["gap_ns"], gemm["gpu_share"]) == (1, 40, 0, pytest.approx(80 / 140))
    experts = found.row("decode step", "layer", "experts").gpu
    assert (experts.total_ns, experts.self_ns) == (4 * 60, 4 * 20)  # the sum kernel was launched in experts itself
    assert found.row("decode step", "sampling").gpu.total_ns == 0
    assert found.attributed("decode step")["gpu"] == pytest.approx(100 / 140)


def test_gpu_time_of_parts_is_that_of_the_whole():
    seen = trace(step(), kernels())
    rows = tabulate(seen, seen).rows
    assert sum(row.gpu.self_ns for row in rows) == rows[0].gpu.total_ns == 140


def test_traces_of_unlike_length_are_joined_by_means_a_call():
    host, gpu = trace([*step(), *step(5000), *step(9000)]), trace(step(), kernels(), source="other")
    found = tabulate(host, gpu)
    assert found.row("decode step").host.count == 3 and found.row("decode step").to_json()["kernels"] == 6
    assert found.sources == {"host": "test", "gpu": "other", "no_gpu": ""}


@pytest.mark.parametrize(
    ("found", "launches", "words"),
    [
        pytest.param(None, 0, "no GPU", id="not-looked-for"),
        pytest.param([], 60, "0 of 60 launches", id="none-of-them"),
        pytest.param(kernels()[:1], 60, "1 of 60 launches", id="one-of-sixty-as-old-cupti-gives"),
        pytest.param([], 0, "no kernel was launched", id="nothing-launched"),
    ],
)
def test_missing_kernel_rows_are_said_and_not_zero(found, launches, words):
    profile = tabulate(trace(step()), trace(step(), found, launches))
    assert words in profile.sources["no_gpu"] and profile.sources["gpu"] == ""
    assert all(row.gpu is None and row.to_json()["kernels"] is None for row in profile.rows)


def test_kernels_outside_every_phase_are_counted_in_a_note():
    seen = trace(step(), [*kernels(), Kernel("late", 9000, 9010, 8000)])
    assert any("1 kernels were launched outside" in note for note in tabulate(seen, seen).notes)


def test_overlapping_kernels_leave_no_negative_gap():
    assert idle_ns([Kernel("a", 0, 100, 0), Kernel("b", 50, 60, 0), Kernel("c", 120, 130, 0)]) == 20


def test_spans_that_cross_are_refused():
    with pytest.raises(ProfileError, match="overlap in part"):
        nest([Span("a", 0, 1000), Span("b", 500, 1500)])


def test_a_rounding_error_at_the_end_is_no_crossing():
    outer, inner = nest([Span("a", 0, 100), Span("b", 50, 101)])
    assert inner.path == ("a", "b") and (outer.self_ns, inner.self_ns) == (50, 50)


def test_copies_do_not_stand_for_kernels():
    copies = [Kernel("Memcpy", 10 * i, 10 * i + 5, i, is_copy=True) for i in range(60)]
    assert "0 of 60 launches" in trace(step(), copies, 60).missing_kernels


def test_threads_do_not_disturb_each_other():
    nodes = nest([Span("a", 0, 100, 1), Span("b", 50, 150, 2), Span("c", 60, 70, 2)])
    assert [node.path for node in nodes] == [("a",), ("b",), ("b", "c")]


def replays(names: dict[str, str] | None = None):
    """Two replays of the step's kernels, each one launch; 2 ns longer in the second."""
    spans = [Span("decode step", at, at + 300) for at in (0, 1000)]
    found = []
    for index, at in enumerate((0, 1000)):
        for kernel in kernels():
            name = (names or {}).get(kernel.name, kernel.name)
            shift = at + 2 * index
            found.append(Kernel(name, kernel.start_ns + at, kernel.end_ns + shift, at + 100, 7, graph_launch=index))
    return trace(spans, found, launches=2)


def test_kernels_of_a_graph_go_to_the_ranges_of_an_eager_step():
    joined, problem = replayed_in_ranges(trace([*step(), *step(5000)], [*kernels(), *kernels(5000)]), replays())
    assert problem == "" and "2 graph replays" in joined.notes[0]
    host = trace([Span("decode step", 0, 90), Span("graph replay", 10, 60)])
    found = tabulate(host, joined)
    # means over two replays: 41 for the GEMM of 40 and 42
    gemm = found.row("decode step", "layer", "experts", "gate-up GEMM")
    assert gemm.gpu.total_ns == 2 * 41 and gemm.host is None and gemm.to_json()["mean_ns"] is None
    assert found.row("decode step").to_json()["kernels"] == 6 and found.row("decode step").host.mean_ns == 90
    assert found.row("decode step", "graph replay").gpu is None


def test_prefill_stays_as_it_ran_beside_the_graphs():
    prefill = [Span("prefill", 20_000, 21_000), Span("attention", 20_100, 20_200)]
    eager = trace([*step(), *prefill], [*kernels(), Kernel("flash", 22_000, 22_300, 20_150)])
    joined, _ = replayed_in_ranges(eager, replays())
    assert tabulate(eager, joined).row("prefill", "attention").gpu.total_ns == 300


def test_a_graph_with_other_kernels_is_not_joined():
    joined, problem = replayed_in_ranges(trace(step(), kernels()), replays({"gemm": "fused"}))
    assert joined is None and "not the 6" in problem


def test_layers_are_told_by_their_place():
    rows = layer_times(trace([*step(), *step(5000)]), trace(step(), kernels()))
    found = {(row["layer"], row["name"]): row for row in rows}
    assert found[(1, "attention")]["host_us"] == 0.1 and found[(1, "attention")]["gpu_us"] == 0.01
    assert found[(None, "sampling")]["gpu_us"] == 0.0
