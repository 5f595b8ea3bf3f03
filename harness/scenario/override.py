"""`--set a.b=v`: change one value of a scenario from the command line.

In: `workloads[0].num_requests=2` or `workloads.0.num_requests=2`; the value is read as YAML.
The path must exist up to its last key, so that a typing error cannot add a key that nothing reads.
"""

import re
from typing import Any

from harness.errors import ScenarioError, UsageError
from harness.scenario.positions import KeyPath, parse_yaml, show_path

MAX_SHOWN = 120


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """Split `a.b=v`; raises UsageError when there is no `=` or the value is not YAML."""
    key, equals, value = text.partition("=")
    parts = re.findall(r"[^.\[\]]+", key)
    if not equals or not parts:
        raise UsageError(f"--set {_shortened(text)}: must look like key.path=value, for example --set repeats=1")
    try:
        parsed, _ = parse_yaml(value, "--set")
    except ScenarioError as error:
        _, _, problem = error.problems[0].partition(": ")
        raise UsageError(f"--set {_shortened(text)}: {problem}") from None
    return tuple(int(part) if re.fullmatch(r"[0-9]{1,9}", part) else part for part in parts), parsed


def _shortened(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")


def apply_override(data: Any, path: KeyPath, value: Any) -> None:
    """Set `value` at `path` inside `data`; raises UsageError when the path leads nowhere."""
    node = data
    for depth, part in enumerate(path):
        here = show_path(path[: depth + 1])
        last = depth == len(path) - 1
        if isinstance(part, int):
            if not isinstance(node, list) or part >= len(node):
                length = f"a list of {len(node)}" if isinstance(node, list) else type(node).__name__
                raise UsageError(f"--set {show_path(path)}: {here} is not there (found {length})")
        elif not isinstance(node, dict):
            raise UsageError(f"--set {show_path(path)}: {here} is not there (found {type(node).__name__})")
        elif part not in node and not last:
            node[part] = {}
        if last:
            node[part] = value
        else:
            node = node[part]
