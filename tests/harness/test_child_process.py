"""A supervised process: what it answers, how its failures are told, and that nothing of it is left."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from harness.backends.child import SUPERVISOR, Child
from harness.errors import WorkerError

# Speaks the protocol and can misbehave; `spawn` starts a grandchild that outlives its parent unless the group is ended.
PROGRAM = """
import json, os, subprocess, sys, time
print("noise that is no message", flush=True)
for line in sys.stdin:
    command = json.loads(line)["command"]
    if command == "die": print("the reason stands here", file=sys.stderr); sys.exit(7)
    if command == "abort": os.abort()
    if command == "hang": time.sleep(60)
    if command == "fail":
        print("Traceback of it", file=sys.stderr, flush=True)
        print(json.dumps({"event": "error", "kind": "ValueError", "message": "no such thing"}), flush=True); continue
    pid = subprocess.Popen(["sleep", "60"]).pid if command == "spawn" else os.getpid()
    print(json.dumps({"event": "progress", "done": 1, "total": 2, "what": command}), flush=True)
    print(json.dumps({"event": "result", "result": {"pid": pid, "path": os.environ.get("PYTHONPATH"), "mine": os.environ.get("MINE")}}), flush=True)
"""  # noqa: E501


@pytest.fixture
def child(tmp_path):
    started = Child([sys.executable, "-c", PROGRAM], log=tmp_path / "log", changes={"MINE": "yes"}, cwd=tmp_path)
    yield started
    started.close()


def _ask(child: Child, command: str, timeout_s: float = 20.0):
    return child.ask(command, timeout_s=timeout_s, on_progress=lambda message: None)


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_answers_and_does_not_inherit_our_sources(child, monkeypatch):
    answer = _ask(child, "hello")
    assert answer["mine"] == "yes" and answer["path"] is None


def test_what_it_prints_is_kept_in_the_log(child):
    _ask(child, "hello")
    assert "noise that is no message" in child.log.read_text()


def test_an_error_is_told_with_the_log(child):
    _ask(child, "hello")
    with pytest.raises(WorkerError, match=r"no such thing; its last words: Traceback of it") as caught:
        _ask(child, "fail")
    assert caught.value.kind == "ValueError"
    assert _ask(child, "hello")["mine"] == "yes"  # it lives on


def test_an_exit_is_told_with_the_log(child):
    _ask(child, "hello")
    with pytest.raises(WorkerError, match=r"exit code 7; its last words: the reason stands here") as caught:
        _ask(child, "die")
    assert caught.value.kind == "crashed"


def test_a_signal_is_told(child):
    with pytest.raises(WorkerError, match="SIGABRT"):
        _ask(child, "abort")


def test_silence_ends_it(child):
    pid = _ask(child, "hello")["pid"]
    with pytest.raises(WorkerError, match=r"nothing heard for 0\.3 s") as caught:
        _ask(child, "hang", timeout_s=0.3)
    assert caught.value.kind == "hang" and _is_gone(pid)


def test_close_ends_grandchildren(child):
    pid = _ask(child, "spawn")["pid"]
    child.close()
    assert _is_gone(pid)


def test_grandchildren_end_with_a_caller_that_is_killed(tmp_path):
    caller = f"""
import sys, pathlib
from harness.backends.child import SUPERVISOR, Child
child = Child([sys.executable, "-c", {PROGRAM!r}], log=pathlib.Path("log"), changes={{}}, cwd=pathlib.Path("."))
print(child.ask("spawn", timeout_s=20, on_progress=lambda message: None)["pid"], flush=True)
import time; time.sleep(60)
"""
    path = os.pathsep.join(os.path.abspath(part) for part in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", caller], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}
    )
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert _is_gone(pid)


def test_a_command_that_ends_with_the_caller_leaves_nothing_though_nobody_saw_it(tmp_path):
    """Its input and the watched pipe close at once: it may have ended before the thread that watches gets its turn."""
    late = f"""
import sys
sys.path.insert(0, {str(SUPERVISOR.parent)!r})
import supervise
supervise._end_with = lambda watched: None
supervise.main()
"""
    program = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    watched, lifeline = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", late, str(watched), sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(watched,), start_new_session=True,
    ) as process:  # fmt: skip
        os.close(watched)
        pid = int(process.stdout.readline())
        os.close(lifeline)
    assert process.returncode == -signal.SIGKILL and _is_gone(pid)


def test_a_program_that_is_not_there(tmp_path):
    child = Child([str(tmp_path / "nowhere")], log=tmp_path / "log", changes={}, cwd=tmp_path)
    with pytest.raises(WorkerError, match="cannot be started"):
        _ask(child, "hello")
