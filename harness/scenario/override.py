"""`--set a.b=v`: change one value of a scenario from the command line.

In: `workloads[0].num_requests=2` or `workloads.0.num_requests=2`; the value is read as YAML.
The path must exist up to its last key, so that a typing error cannot add a key that nothing reads.
"""

import re
from typing import Any

import yaml

from harness.errors import UsageError
from harness.scenario.positions import KeyPath, show_path


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """Split `a.b=v`; raises UsageError when there is no `=` or the value is not YAML."""
    key, equals, value = text.partition("=")
    parts = re.findall(r"[^.\[\]]+", key)
    if not equals or not parts:
        raise UsageError(f"--set {text!r}: must look like key.path=value, for example --set repeats=1")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"--set {text!r}: the value is not valid YAML") from None
    return tuple(int(part) if part.isdigit() else part for part in parts), parsed


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
        elif part not in node:
            if not last:
                node[part] = {}
        if last:
            node[part] = value
        else:
            node = node[part]
