"""What nsys traces, what follows when tracing CUDA fails, and what later cells learn of it. nsys itself is made up."""

import json
from dataclasses import replace

import pytest

from harness.errors import ProfileError, WorkerError
from harness.profile import nsys, under_nsys
from harness.profile.command import learned
from harness.profile.options import ProfileOptions
from harness.profile.process import Job
from harness.profile.spans import Kernel, Span, Trace
from harness.profile.tools import Nsys
from harness.profile.under_nsys import Seen, traces_of

JOB = Job("native", {}, {"stem": "s"}, 1, 30.0, on_gpu=True)
SPANS = (Span("decode step", 0, 9),)
WHOLE = Trace("nsys", SPANS, (Kernel("gemm", 5, 9, 3),), 1)
PARTLY = replace(WHOLE, num_launches=60)


@pytest.fixture
def tried(monkeypatch):
    """What was traced, one word a try; `failing` maps a trace to its error."""

    def make(failing: dict, trace: Trace = WHOLE) -> list[str]:
        found: list[str] = []

        def collect(tool, command, folder, *, timeout_s, trace):
            found.append(trace)
            if trace in failing:
                raise failing[trace]
            result = {"passes": [{"name": "nvtx"}], "cost": {"nvtx_ns": 900.0}}
            (folder / "result.json").write_text(json.dumps({"result": result}))
            return folder / "nsys.sqlite"

        monkeypatch.setattr(nsys, "collect", collect)
        monkeypatch.setattr(under_nsys, "read_sqlite", lambda path, domain: trace)
        return found

    return make


def see(folder, wish: str = "auto", job: Job = JOB) -> Seen:
    options = ProfileOptions(nsys_trace=wish)
    return under_nsys.under_nsys(job, folder, folder / "nsys", Nsys("nsys", "2023.4", None), options=options, timeout_s=9)


@pytest.mark.parametrize(
    ("wish", "on_gpu", "expected"),
    [
        pytest.param("auto", True, (nsys.CUDA, nsys.NVTX), id="kernels-if-it-can"),
        pytest.param("cuda", True, (nsys.CUDA,), id="asked-for-by-name-has-no-second-try"),
        pytest.param("nvtx", True, (nsys.NVTX,), id="ranges-alone"),
        pytest.param("auto", False, (nsys.NVTX,), id="no-gpu"),
    ],
)
def test_what_is_tried(wish, on_gpu, expected):
    assert traces_of(wish, on_gpu=on_gpu) == expected


def test_a_run_that_succeeds_is_the_only_one(tmp_path, tried):
    done = tried({})
    seen = see(tmp_path)
    assert done == [nsys.CUDA] and seen.trace.missing_kernels is None and not seen.lost_kernels


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ProfileError("nsys left no report (exit code 1)"), id="import-fails"),
        pytest.param(WorkerError("killed", "ended by SIGSEGV"), id="the-old-library-takes-the-process-down"),
    ],
)
def test_failing_with_cuda_it_is_run_again_for_its_ranges(tmp_path, tried, error):
    done = tried({nsys.CUDA: error})
    seen = see(tmp_path)
    assert done == [nsys.CUDA, nsys.NVTX] and seen.traced == nsys.NVTX and seen.lost_kernels
    assert "--trace=cuda,nvtx failed and was run again with --trace=nvtx" in seen.notes[0] and str(error) in seen.notes[0]
    assert seen.trace.spans == SPANS and seen.trace.missing_kernels == under_nsys.NO_CUDA


def test_failing_twice_is_an_error(tmp_path, tried):
    tried({nsys.CUDA: ProfileError("one"), nsys.NVTX: ProfileError("two")})
    with pytest.raises(ProfileError, match="two"):
        see(tmp_path)


@pytest.mark.parametrize(
    ("trace", "wish", "expected"),
    [
        pytest.param(PARTLY, "auto", "nvtx", id="one-kernel-of-sixty"),
        pytest.param(WHOLE, "auto", "auto", id="all-kernels"),
        pytest.param(PARTLY, "cuda", "cuda", id="asked-for-by-name"),
    ],
)
def test_later_cells_do_not_trace_cuda_in_vain(tmp_path, tried, trace, wish, expected):
    tried({}, trace)
    seen, said = see(tmp_path, wish), []
    block = {"nsys": {"traced": seen.traced, "lost_kernels": seen.lost_kernels}}
    assert learned(ProfileOptions(nsys_trace=wish), block, said.append).nsys_trace == expected
    assert bool(said) == (expected != wish)


def test_ranges_alone_teach_nothing():
    seen = Seen(replace(PARTLY, kernels=None, no_kernels=under_nsys.NO_CUDA), [], {}, nsys.NVTX, ())
    assert not seen.lost_kernels
