"""The first screen: sentences computed from the records, and what they say when something is missing."""

import pytest

from harness.report.answer import answers, leads
from harness.report.cells import REFERENCE_SPEED, measured_cells
from harness.report.data import load
from harness.report.notices import notices
from harness.report.variants import variants
from report_fixture import A100, CRASH, RTX_5090, Spec, make_run


def first_screen(tmp_path, *specs):
    runs = [load(make_run(tmp_path, spec)) for spec in specs or (Spec(),)]
    everyone = variants(measured_cells(runs))
    found = answers(everyone)
    return leads(everyone, found), found


def test_cpu_lead_gives_memory_and_quality_and_disowns_the_speed(tmp_path):
    (lead,), _ = first_screen(tmp_path)
    assert lead == (
        "On this machine (Intel Xeon, CPU, reference implementation) NVFP4 × BF16 (search) keeps "
        "pocket-mixtral's experts in 2.21 MB instead of 7.86 MB (3.56× less) and costs +1.3 % perplexity "
        "(95 % interval +1.1 to +1.5, n = 65\u202f536 tokens). "
        "Its speed here is the reference implementation's, not FP4's."
    )


def test_reference_speed_is_never_set_beside_bf16(tmp_path):
    _, found = first_screen(tmp_path)
    assert {(answer.speed.figure, answer.speed.detail) for answer in found} == {("—", REFERENCE_SPEED)}


def test_gpu_lead_gives_the_speed_beside_bf16(tmp_path):
    (lead,), found = first_screen(tmp_path, Spec(target=RTX_5090, speedup=1.9))
    assert "(RTX 5090, GPU, triton-decode + triton-upcast)" in lead
    assert "BF16's tokens/s at single" in lead
    assert found[0].speed.figure.startswith("1.")


def test_speeds_within_their_spread_are_said_to_be(tmp_path):
    (lead,), _ = first_screen(tmp_path, Spec(target=A100, speedup=1.0))
    assert "within the spread of the repeats" in lead


def test_same_result_on_two_machines_is_one_lead_with_both_speeds(tmp_path):
    specs = [Spec(target=A100, speedup=1.3, run_id="a"), Spec(target=RTX_5090, speedup=1.9, run_id="b")]
    sentences, _ = first_screen(tmp_path, *specs)
    assert len(sentences) == 1
    assert sentences[0].startswith("On A100-SXM4-80GB and RTX 5090 (GPU, triton-decode + triton-upcast), NVFP4 × BF16")
    assert "A100-SXM4-80GB: it puts out 1." in sentences[0]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param(Spec(failing=("*",)), f"all 9 cells failed. The first error is worker_died: {CRASH}", id="failed"),
        pytest.param(Spec(precisions=("bf16",)), "there is no FP4 to set beside it", id="only-bf16"),
        pytest.param(Spec(precisions=("nvfp4",)), "no BF16 was measured beside it", id="no-baseline"),
        pytest.param(Spec(workloads=("single",)), "no heldout cell for this precision", id="no-heldout"),
        pytest.param(Spec(workloads=("heldout",)), "Its speed was not measured", id="no-requests"),
        pytest.param(Spec(weights_source="random"), "random weights carry no perplexity", id="random-weights"),
        pytest.param(Spec(precisions=("bf16", "int4")), "No FP4 precision was measured here", id="no-fp4"),
        pytest.param(Spec(invalid=("nvfp4/heldout",)), "verdict on heldout is INVALID: do not rely on it", id="invalid"),
        pytest.param(Spec(target=A100, num_repeats=1, failing=(), speedup=1.3), "(1 repeat)", id="single-repeat"),
    ],
)
def test_lead_says_what_is_missing(tmp_path, spec, says):
    (lead,), _ = first_screen(tmp_path, spec)
    assert says in lead


def test_no_record_at_all(tmp_path):
    (lead,), found = first_screen(tmp_path, Spec(precisions=()))
    assert lead == "No cell has a record: nothing was measured."
    assert found == ()


def test_fp4_comes_first_then_the_cheapest(tmp_path):
    spec = Spec(precisions=("bf16", "fp8", "int4", "mxfp4", "nvfp4"), failing=())
    _, found = first_screen(tmp_path, spec)
    assert [answer.variant.head.weights for answer in found] == ["nvfp4", "mxfp4", "fp8", "int4"]


def test_change_that_may_be_zero_is_no_cost(tmp_path):
    _, found = first_screen(tmp_path, Spec(precisions=("bf16", "fp8"), failing=()))
    assert "changes perplexity by +0.08 %" in found[0].quality.words
    assert "not told apart from zero" in found[0].quality.detail


def test_notices_say_what_weakens_the_figures(tmp_path):
    specs = [Spec(run_id="a"), Spec(run_id="b", target=A100, scenario_sha256="77" * 32, failing=())]
    runs = [load(make_run(tmp_path, spec)) for spec in specs]
    text = " ".join(notice.text for notice in notices(runs, measured_cells(runs)))
    for part in (
        "its speed is not FP4's speed",
        "had a failed repeat",
        "not of one scenario",
        "uncommitted changes in a, b",
    ):
        assert part in text


def test_answers_of_several_backends_say_whose_they_are(tmp_path):
    from harness.report import write_reports

    paths = write_reports(["results/baselines/mixtral-8x7b-h100"], tmp_path)
    text, page = paths.markdown.read_text(), paths.html.read_text()
    for backend in ("native", "vllm"):
        assert f"NVFP4 × BF16 (search), mixtral-8x7b, H100 80GB HBM3, {backend} |" in text
        assert f"mixtral-8x7b on H100 80GB HBM3 · {backend}</span>" in page
