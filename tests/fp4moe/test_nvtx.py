"""NVTX ranges reach a tool that speaks the injection protocol, as nsys does; here one of our own, compiled for the test.

A process for each case: the tool is chosen by the environment, once a process. The real nsys: test_profile_real_nsys.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CC = shutil.which("cc") or shutil.which("gcc")
SOURCE = Path(__file__).with_name("nvtx_tool.c")
CODE = """
from fp4moe import nvtx, ranges
sink, why = nvtx.open_nvtx()
print(why)
if sink is not None:
    ranges.add(sink)
    with ranges.range("decode step", step=4, tokens=8):
        with ranges.range("share", value=0.5):
            request = ranges.start("request", tokens=3)
        with ranges.range("plain"):
            pass
    ranges.end(request)
"""


def run(folder: Path, **variables: str) -> tuple[str, list[str]]:
    log = folder / "log"
    env = {name: value for name, value in os.environ.items() if name != "NVTX_INJECTION64_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=env | {"NVTX_TOOL_LOG": str(log)} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), log.read_text().splitlines() if log.exists() else []


@pytest.fixture(scope="module")
def tool(tmp_path_factory) -> str:
    if CC is None:
        pytest.skip("no C compiler to build the tool with")
    path = tmp_path_factory.mktemp("tool") / "libtool.so"
    subprocess.run([CC, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(path), str(SOURCE)], check=True)
    return str(path)


def test_ranges_arrive_in_order_with_their_payload(tool, tmp_path):
    why, lines = run(tmp_path, NVTX_INJECTION64_PATH=tool)
    assert why == tool
    assert lines == [
        "domain fp4moe",
        "push decode step size=48 type=2 4",  # one number: the first of the payload
        "push share size=48 type=3 0.5",
        "start request size=48 type=2 3",
        "pop",
        "push plain size=48 type=0",
        "pop",
        "pop",
        "end 77",
    ]


def test_no_tool_no_sink(tmp_path):
    why, lines = run(tmp_path)
    assert "NVTX_INJECTION64_PATH is not set" in why and lines == []


def test_tool_that_refuses(tool, tmp_path):
    why, _ = run(tmp_path, NVTX_INJECTION64_PATH=tool, NVTX_TOOL_REFUSES="1")
    assert why.endswith("refused this process")


def test_library_that_is_none(tmp_path):
    why, _ = run(tmp_path, NVTX_INJECTION64_PATH=str(SOURCE))
    assert "cannot be used as an NVTX tool" in why
