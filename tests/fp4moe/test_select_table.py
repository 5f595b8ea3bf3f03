"""The table itself: every row's target, pack and files exist, found without importing what needs a GPU."""

import ast
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

import fp4moe
from fp4moe.select import IMPLEMENTATIONS, NAMES, OPS
from fp4moe.select.environment import REASONS

ROWS = [pytest.param(row, id=f"{row.op}-{row.name}") for row in IMPLEMENTATIONS]
ROOT = Path(fp4moe.__file__).parent


def names_in(module: str) -> set[str]:
    """What a module defines or imports at its top level; fp4moe is imported on the way, the module is not."""
    path = ROOT / Path(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert module.startswith("fp4moe.") and file.is_file(), f"{module}: no such module"
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("row", ROWS)
def test_target_and_pack_are_functions_that_exist(row):
    for target in (row.target, row.pack):
        if target is not None:
            module, _, function = target.partition(":")
            assert function in names_in(module)


def test_a_row_whose_code_is_not_there_would_be_noticed():
    with pytest.raises(AssertionError, match="no such module"):
        names_in("fp4moe.cuda.not_written_yet")
    assert "not_written_yet" not in names_in("fp4moe.reference")


@pytest.mark.parametrize("row", ROWS)
def test_row_is_consistent(row):
    assert row.op in OPS and set(row.needs) <= set(REASONS)
    assert (row.pack is None) == (row.layout == "rows"), "another layout than the stored rows has a pack"
    assert all((ROOT / file).is_file() for file in row.source_files)
    formats = {(w, a) for w in row.weight_formats for a in row.activation_formats}
    assert set(row.formats()) <= formats
    assert {w for w, _ in row.formats()} == set(row.weight_formats)
    assert {a for _, a in row.formats()} == set(row.activation_formats)


def test_a_name_stands_once_in_an_operation_and_every_operation_ends_with_the_reference():
    for op in OPS:
        rows = [row for row in IMPLEMENTATIONS if row.op == op]
        assert len({row.name for row in rows}) == len(rows)
        assert [row.is_reference for row in rows] == [False] * (len(rows) - 1) + [True]
    assert set(NAMES) == {row.name for row in IMPLEMENTATIONS}


def test_pairs_of_triton_grouped_are_those_that_its_code_has():
    tree = ast.parse((ROOT / "triton" / "experts.py").read_text())
    found = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "PAIRS"]
    (row,) = [row for row in IMPLEMENTATIONS if row.name == "triton-grouped"]
    assert set(ast.literal_eval(found[0])) == set(row.formats())


@pytest.mark.parametrize("row", [param for param in ROWS if "triton" in param.values[0].needs])
def test_triton_rows_load_where_triton_is(row):
    if find_spec("triton") is None:
        pytest.skip("triton is not installed; its rows are refused here")
    assert callable(row.load()) and (row.pack is None or callable(row.load_pack()))


def test_a_limit_on_slots_is_one_on_tokens_of_a_shape():
    row = replace(IMPLEMENTATIONS[-1], max_slots=256, max_tokens=100)
    assert row.token_limit(None) == 0 and not row.takes_any_number


@pytest.mark.parametrize("row", [row for row in IMPLEMENTATIONS if row.source_files], ids=lambda row: row.name)
def test_source_files_name_every_header_that_is_included(row):
    """Else a record would not go stale when one of them changes."""
    for name in (name for name in row.source_files if name.startswith("cuda/") and not name.endswith(".py")):
        text = (ROOT / name).read_text(encoding="utf-8")
        included = {f"cuda/{header}" for header in re.findall(r'#include "([^"]+)"', text)}
        assert included <= set(row.source_files), name
