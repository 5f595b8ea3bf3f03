"""Tools of a machine: what is missing is said in words, and looking for it builds and imports nothing."""

import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest

from fp4moe.select import environment
from fp4moe.select.environment import COMPLETE, REASONS, Environment


@pytest.mark.parametrize("tool", REASONS)
def test_a_missing_tool_is_named_with_what_to_do(tool):
    bare = Environment(frozenset(REASONS) - {tool})
    assert bare.refusal((tool,)) == REASONS[tool] and "install" in REASONS[tool]
    assert bare.refusal(()) is None and COMPLETE.refusal(tuple(REASONS)) is None


def test_this_machine_is_asked_for_each_tool(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(environment, "nvcc_path", lambda: None)
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    assert Environment.of_this_machine().tools == frozenset()
    monkeypatch.setenv("CC", "/opt/cc")
    monkeypatch.setattr(environment, "find_spec", lambda name: ModuleSpec(name, None, origin="/t"))
    monkeypatch.setattr(environment, "nvcc_path", lambda: "/opt/cuda/bin/nvcc")
    assert Environment.of_this_machine() == COMPLETE


def test_looking_imports_neither_torch_nor_triton():
    code = "import sys; from fp4moe.select import Environment; Environment.of_this_machine(); "
    code += "sys.exit('torch' in sys.modules or 'triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
