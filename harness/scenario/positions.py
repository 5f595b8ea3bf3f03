"""Where each value of a YAML file stands.

In: YAML text. Out: the plain data and `Positions`, which answers "which line holds workloads[0].arrival.rate_per_s".
YAML that repeats a key is refused, since the first value would be lost without a word.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from harness.errors import ScenarioError

KeyPath = tuple[str | int, ...]


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


def parse_yaml(text: str, file: str) -> tuple[Any, Positions]:
    """Parse one YAML document; raises ScenarioError with file and line on a syntax error or a repeated key."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ScenarioError([f"{file}:{line}: not valid YAML: {error.problem or error.context}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScenarioError([f"{file}:1: not valid YAML: {str(error).splitlines()[0]}"]) from None
    lines: dict[KeyPath, int] = {}
    if root is not None:
        _collect(root, (), lines, file)
    return data, Positions(file, lines)


def _collect(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: str) -> None:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _collect(item, (*path, index), lines, file)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(getattr(key, "value", key))
            if (*path, name) in lines:
                line = key.start_mark.line + 1
                raise ScenarioError([f"{file}:{line}: {show_path((*path, name))}: key given twice; keep one"])
            _collect(value, (*path, name), lines, file)
            lines[(*path, name)] = key.start_mark.line + 1


def show_path(path: KeyPath) -> str:
    """`("workloads", 0, "rate")` -> `workloads[0].rate`."""
    shown = ""
    for part in path:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else str(part)
    return shown or "(the whole file)"
