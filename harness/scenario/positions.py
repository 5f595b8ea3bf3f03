"""Where each value of a YAML file stands.

In: YAML text. Out: the plain data and `Positions`, which answers "which line holds workloads[0].arrival.rate_per_s".
YAML that repeats a key is refused, since the first value would be lost without a word; so is YAML whose aliases
stand for more values than a scenario can have, before any of them is built.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from harness.errors import ScenarioError

KeyPath = tuple[str | int, ...]
MAX_VALUES = 10_000
MAX_DEPTH = 32
MAX_INTEGER_BITS = 256


@dataclass(frozen=True, slots=True)
class Positions:
    """Line numbers (from 1) by key path; values set from the command line have none."""

    file: str
    lines: dict[KeyPath, int]
    overridden: frozenset[KeyPath] = frozenset()

    def place(self, path: KeyPath) -> str:
        """`file:line` of the value, or of the nearest thing around it that the file holds."""
        if any(path[: len(key)] == key for key in self.overridden):
            return "--set"
        while path not in self.lines and path:
            path = path[:-1]
        return f"{self.file}:{self.lines.get(path, 1)}"


class _Loader(yaml.SafeLoader):
    """SafeLoader whose every failure to read a value says on which line the value stands."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep=deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # PyYAML lets through whatever int(), datetime() or a look-up of a tag raises
            problem = f"not a {node.tag.rpartition(':')[2]} ({_first_line(error)})"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None
        if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
            problem = f"an integer of {value.bit_length()} bits (at most {MAX_INTEGER_BITS})"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value


def parse_yaml(text: str, file: str) -> tuple[Any, Positions]:
    """Parse one YAML document; raises ScenarioError with file and line for what is not YAML or is too much of it."""
    lines: dict[KeyPath, int] = {}
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, Positions(file, lines)
        _collect(root, (), lines, file)
        return loader.construct_document(root), Positions(file, lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ScenarioError([f"{file}:{line}: not valid YAML: {error.problem or error.context}"]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"character U+{ord(text[error.position]):04X}"
        raise ScenarioError([f"{file}:{line}: not valid YAML: {found} is not allowed"]) from None
    except RecursionError:
        raise ScenarioError([_too_deep(file, 1)]) from None


def _collect(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: str) -> None:
    line = node.start_mark.line + 1
    if len(path) > MAX_DEPTH:
        raise ScenarioError([_too_deep(file, line)])
    if len(lines) >= MAX_VALUES:
        raise ScenarioError([f"{file}:{line}: holds more than {MAX_VALUES} values with its aliases written out"])
    lines[path] = line
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _collect(item, (*path, index), lines, file)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _collect_pair(key, value, path, lines, file)


def _collect_pair(key: yaml.Node, value: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: str) -> None:
    line = key.start_mark.line + 1
    if not isinstance(key, yaml.ScalarNode):
        raise ScenarioError([f"{file}:{line}: {show_path(path)}: a key must be text (got a {key.id})"])
    inner = (*path, key.value)
    if inner in lines:
        raise ScenarioError([f"{file}:{line}: {show_path(inner)}: key given twice; keep one"])
    _collect(value, inner, lines, file)
    lines[inner] = line


def _too_deep(file: str, line: int) -> str:
    return f"{file}:{line}: nested more than {MAX_DEPTH} levels deep"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def show_path(path: KeyPath) -> str:
    """`("workloads", 0, "rate")` -> `workloads[0].rate`."""
    shown = ""
    for part in path:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else str(part)
    return shown or "(the whole file)"
