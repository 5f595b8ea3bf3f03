"""Running nsys: what each way of failing is called, and that nothing of it is left running."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from fake_nsys import write_fake
from harness.errors import ProfileError, StorageError, UsageError
from harness.profile import nsys
from harness.profile.command import choose_tool
from harness.profile.tools import Nsys, find_nsys

DOES_NOTHING = [sys.executable, "-c", "pass"]


def found(path: Path, monkeypatch) -> tuple[Nsys | None, str]:
    monkeypatch.setenv("HARNESS_NSYS", str(path))
    return find_nsys()


def collect(folder: Path, way: str, timeout_s: float = 20.0, command: list[str] = DOES_NOTHING):
    path = write_fake(folder, way)
    return nsys.collect(Nsys(str(path), "2024.1.1", None), command, folder, timeout_s=timeout_s, trace=nsys.NVTX)


def test_hanging_nsys_is_ended_with_its_agent(tmp_path):
    started = time.monotonic()
    with pytest.raises(ProfileError, match="nsys profile: no end after 3 s; it was ended"):
        collect(tmp_path, "hang", timeout_s=3.0)
    assert time.monotonic() - started < 15
    agent = int((tmp_path / "agent.pid").read_text())
    assert not psutil.pid_exists(agent) or psutil.Process(agent).status() == psutil.STATUS_ZOMBIE


def test_killed_nsys_is_named_by_its_signal(tmp_path):
    with pytest.raises(ProfileError, match="ended by SIGKILL"):
        collect(tmp_path, "killed")


def test_full_disk_is_a_storage_error_with_a_next_step(tmp_path):
    with pytest.raises(StorageError, match="disk is full.*TMPDIR"):
        collect(tmp_path, "full")


def test_no_report_gives_its_last_words_without_the_progress_bar(tmp_path):
    with pytest.raises(ProfileError, match=r"left no report \(exit code 1\). Its last words: The target said no."):
        collect(tmp_path, "silent")


def test_raw_report_without_an_importer_says_what_to_install(tmp_path):
    (tmp_path / "nsys.qdstrm").write_text("raw")
    with pytest.raises(ProfileError, match="no QdstrmImporter"):
        nsys.export(Nsys("nsys", "2022.4", None), tmp_path, nsys.Finished(0, ""))


def test_an_older_report_is_not_taken_for_this_one(tmp_path):
    (tmp_path / "nsys.nsys-rep").write_text("of yesterday")
    with pytest.raises(ProfileError, match="left no report"):
        collect(tmp_path, "silent")


def test_a_child_that_outlives_its_command_is_ended(tmp_path):
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    log = tmp_path / "log"
    ended = nsys.run_bounded([sys.executable, "-c", code], log=log, timeout_s=20, what="it")
    child = int(ended.output)
    assert ended.code == 0
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_program_that_is_not_there(tmp_path):
    with pytest.raises(ProfileError, match="cannot be started"):
        nsys.run_bounded([str(tmp_path / "none")], log=tmp_path / "log", timeout_s=1, what="it")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        pytest.param("NVIDIA Nsight Systems version 2020.1.1.65", "needs 2021.3 or newer", id="too-old"),
        pytest.param("GNU tar 1.34", "names no version", id="another-program"),
    ],
)
def test_unfit_nsys_is_refused_with_its_version(tmp_path, monkeypatch, version, words):
    tool, problem = found(write_fake(tmp_path, "ok", version=version), monkeypatch)
    assert tool is None and words in problem


def test_version_of_a_fit_one(tmp_path, monkeypatch):
    tool, problem = found(write_fake(tmp_path, "ok"), monkeypatch)
    assert tool.version == "2024.1.1" and problem == ""


def test_missing_nsys(tmp_path, monkeypatch):
    tool, problem = found(tmp_path / "none", monkeypatch)
    assert tool is None and "is not here: install Nsight Systems" in problem
    with pytest.raises(UsageError, match="--profiler nsys: .*torch profiler gives the same table"):
        choose_tool("nsys", lambda line: None)
    said: list[str] = []
    assert choose_tool("auto", said.append) is None and "torch profiler (" in said[0]


def test_graph_nodes_are_traced_where_cuda_is():
    tool = Nsys("nsys", "2024.1.1", None)
    command = nsys.profile_command(tool, Path("r"), ["python", "x.py"], trace=nsys.CUDA)
    assert "--cuda-graph-trace=node" in command and "--trace=cuda,nvtx" in command and command[-2:] == ["python", "x.py"]
    plain = nsys.profile_command(tool, Path("r"), ["python"], trace=nsys.NVTX)
    assert "--trace=nvtx" in plain and {"--sample=none", "--cpuctxsw=none"} < set(plain)


def test_importer_is_found_in_debian_s_layout(tmp_path):
    from harness.profile.tools import find_importer

    target, host = tmp_path / "target-linux-x64", tmp_path / "host-linux-x64"
    target.mkdir()
    host.mkdir()
    (target / "nsys").touch()
    importer = host / "QdstrmImporter"
    importer.touch(mode=0o755)
    os.chmod(importer, 0o755)
    assert find_importer(str(target / "nsys")) == str(importer)
