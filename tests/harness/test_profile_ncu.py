"""One kernel under ncu: what is asked of it, what its CSV says, and what is said when it cannot."""

import sys

import pytest

from harness.errors import ProfileError
from harness.profile.ncu import ncu_command, one_kernel, parse, stack_filter
from harness.profile.render import lines

CSV = """==PROF== Connected to process 7
loading 1/5
"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","7","gemm(float *, int)","GPU Speed Of Light Throughput","Memory Throughput","%","81.3"
"0","7","gemm(float *, int)","GPU Speed Of Light Throughput","Duration","us","64.1"
==PROF== Disconnected
"""


def fake(folder, output: str) -> str:
    path = folder / "ncu-of-the-test"
    path.write_text(f"#!{sys.executable}\nprint({output!r})\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        pytest.param("experts", "fp4moe@decode step/*/experts", id="a-name-is-of-decode-steps"),
        pytest.param("prefill/experts", "fp4moe@prefill/*/experts", id="a-path-is-of-its-own-root"),
        pytest.param("decode step", "fp4moe@decode step/", id="a-root-alone-ends-in-the-slash-of-push-and-pop"),
    ],
)
def test_the_range_is_a_push_pop_range_of_our_domain(inside, expected):
    command = ncu_command("ncu", inside, ["python", "x.py"])
    assert stack_filter(inside) == expected == command[command.index("--nvtx-include") + 1]
    assert command[-2:] == ["python", "x.py"]


def test_one_kernel_at_the_clocks_that_there_are():
    command = ncu_command("ncu", "experts", ["python"])
    assert command[command.index("--launch-count") + 1] == "1" and command[command.index("--clock-control") + 1] == "none"


def test_a_column_with_several_lines_does_not_break_its_row():
    head = '"ID","Kernel Name","thread Domain:Push/Pop_Range","Metric Name","Metric Value"'
    rows = parse(f'==PROF== x\n{head}\n"0","gemm","fp4moe:decode step\nfp4moe:experts","Duration","64.1"\n==PROF== y\n')
    assert len(rows) == 1 and rows[0]["Metric Value"] == "64.1"


def test_counters_are_read_from_between_the_other_lines(tmp_path):
    found = one_kernel(fake(tmp_path, CSV), "gate-up GEMM", ["true"], tmp_path, timeout_s=20)
    assert found["kernel"] == "gemm(float *, int)"
    assert found["metrics"][1] == {
        "section": "GPU Speed Of Light Throughput", "name": "Duration", "unit": "us", "value": "64.1"
    }  # fmt: skip
    block = dict.fromkeys(("rows", "overhead", "notes"), []) | {"attributed": {}, "ncu": found}
    block["sources"] = {"host": "x", "gpu": "x", "no_gpu": ""}
    assert "Memory Throughput 81.3 %; Duration 64.1 us" in list(lines(block))[-1]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        pytest.param("==ERROR== ERR_NVGPUCTRPERM - no permission", "only an administrator", id="no-permission"),
        pytest.param("==WARNING== No kernels were profiled.", "no kernel was launched in the range 'route'", id="no-kernel"),
    ],
)
def test_what_stops_it_is_said(tmp_path, output, words):
    with pytest.raises(ProfileError, match=words):
        one_kernel(fake(tmp_path, output), "route", ["true"], tmp_path, timeout_s=20)
