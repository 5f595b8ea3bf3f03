"""The GPU check says why it cannot run, and counts a NaN as wrong; on a GPU it passes."""

import json
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton")

from fp4moe.triton import check

HAS_GPU = torch.cuda.is_available()


@pytest.mark.skipif(HAS_GPU, reason="asks what happens without a GPU")
def test_without_a_gpu_it_fails_with_the_reason():
    with pytest.raises(SystemExit, match="needs a CUDA GPU and none was found"):
        check.main()


@pytest.mark.parametrize(
    ("found", "error"),
    [
        pytest.param([3.0, 4.0], 0.0, id="equal"),
        pytest.param([3.0, 4.5], 0.1, id="a-tenth-of-the-norm"),
        pytest.param([3.0, float("nan")], float("inf"), id="nan-is-wrong"),
    ],
)
def test_relative_error(found, error):
    assert check.relative_error(torch.tensor(found), torch.tensor([3.0, 4.0])) == pytest.approx(error)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA GPU")
def test_every_format_and_shape_on_this_gpu():
    done = subprocess.run([sys.executable, "-m", "fp4moe.triton.check"], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and lines[-1] == {"failed": 0}, [line for line in lines if line.get("passed") is False][:5]
