"""Read a scenario file: YAML text -> `Scenario`, or every problem with file, line, key path, value and what is allowed.

Nothing is written and nothing of the machine is looked at; paths of checkpoints are made absolute against the file.
"""

import difflib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from harness.errors import ScenarioError, UsageError
from harness.scenario.override import apply_override, parse_override
from harness.scenario.positions import KeyPath, Positions, parse_yaml, show_path
from harness.scenario.schema import Scenario

MAX_SHOWN = 20
MAX_BYTES = 256 * 1024


def load_scenario(path: Path, overrides: tuple[str, ...] = ()) -> Scenario:
    """Read and check a scenario. Raises ScenarioError (one line a problem) or UsageError (`--set`, missing file)."""
    data, positions = parse_yaml(_read_text(path), str(path))
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise ScenarioError([f"{path}:1: a scenario must be a mapping of keys (got {found})"])
    for text in overrides:
        key, value = parse_override(text)
        apply_override(data, key, value)
        positions = Positions(positions.file, positions.lines, positions.overridden | {key})
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        raise ScenarioError(_problems(error, data, positions)) from None
    return _with_absolute_paths(scenario, path, positions)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else Path("scenarios")
        near = difflib.get_close_matches(path.name, [p.name for p in folder.glob("*.yaml")], n=1)
        hint = f"; did you mean {folder / near[0]}?" if near else "; see the files under scenarios/"
        raise UsageError(f"{path}: no such scenario{hint}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    if len(content) > MAX_BYTES:
        raise ScenarioError([f"{path}:1: larger than a scenario can be ({MAX_BYTES // 1024} KiB)"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ScenarioError([f"{path}:{line}: must be UTF-8 text (got byte 0x{content[error.start]:02x})"]) from None


def _with_absolute_paths(scenario: Scenario, path: Path, positions: Positions) -> Scenario:
    problems, models = [], []
    for index, model in enumerate(scenario.models):
        if model.path is not None:
            folder = _find_checkpoint(path.parent, model.path)
            if folder is None:
                key = ("models", index, "path")
                problems.append(
                    f"{positions.place(key)}: {show_path(key)}: no checkpoint at {model.path!r} "
                    "(needs a folder with config.json and *.safetensors)"
                )
            model = model.model_copy(update={"path": str(folder)})
        models.append(model)
    workloads, missing = _with_absolute_sources(scenario, path, positions)
    if problems or missing:
        raise ScenarioError(problems + missing)
    return scenario.model_copy(update={"models": models, "workloads": workloads}).with_positions(positions)


def _with_absolute_sources(scenario: Scenario, path: Path, positions: Positions) -> tuple[list, list[str]]:
    """(workloads whose traces and conversations have absolute paths, a line for each file that is not there)."""
    problems, workloads = [], []
    for index, workload in enumerate(scenario.workloads):
        if workload.source.kind != "text":
            file = _find_file(path.parent, workload.source.path)
            if file is None:
                key = ("workloads", index, "source", "path")
                rule = f"no file at {workload.source.path!r}; the path is relative to the scenario file"
                problems.append(f"{positions.place(key)}: {show_path(key)}: {rule}")
            source = workload.source.model_copy(update={"path": str(file)})
            workload = workload.model_copy(update={"source": source})
        workloads.append(workload)
    return workloads, problems


def _find_file(base: Path, path: str) -> Path | None:
    try:
        file = (base / Path(path).expanduser()).resolve()
        return file if file.is_file() else None
    except (OSError, RuntimeError, ValueError):  # as for a checkpoint's path
        return None


def _find_checkpoint(base: Path, path: str) -> Path | None:
    """The folder with a config.json that `path` means; None where there is none, or it cannot be a path."""
    try:
        folder = (base / Path(path).expanduser()).resolve()
        return folder if (folder / "config.json").is_file() else None
    except (OSError, RuntimeError, ValueError):  # name too long; no such user or a loop of links; a NUL in it
        return None


def _problems(error: ValidationError, data: Any, positions: Positions) -> list[str]:
    lines = [_describe(item, data, positions) for item in error.errors(include_url=False)]
    if len(lines) > MAX_SHOWN:
        lines = [*lines[:MAX_SHOWN], f"... and {len(lines) - MAX_SHOWN} more problems"]
    return list(dict.fromkeys(lines))


def _describe(item: dict, data: Any, positions: Positions) -> str:
    path = _key_path(item["loc"], data)
    message = _message(item, path)
    return f"{positions.place(path)}: {show_path(path)}: {message}"


def _key_path(location: tuple, data: Any) -> KeyPath:
    """Pydantic's location without the names of union members, so that it reads like the file."""
    path: list[str | int] = []
    node = data
    for depth, part in enumerate(location):
        last = depth == len(location) - 1
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
            node = node if not isinstance(node, str) else {"weights": node, "name": node}
        elif not (last and (isinstance(node, dict) or node is None)):
            continue
        path.append(part)
    return tuple(path)


def _message(item: dict, path: KeyPath) -> str:
    kind, context, value = item["type"], item.get("ctx", {}), item["input"]
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        return "required, and missing"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return f"`kind` must be one of {context.get('expected_tags', 'closed, all_at_once, constant, poisson')}{_got(value)}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "model_type":
        return f"must be a mapping of keys (allowed: {', '.join(_allowed_keys(Scenario, path))}){_got(value)}"
    text = item["msg"].replace("Input should be", "must be").replace("Value should", "must")
    return f"{text[0].lower()}{text[1:]}{_got(value)}"


def _got(value: Any) -> str:
    shown = repr(value)
    return f" (got {shown if len(shown) <= 60 else shown[:57] + '...'})"


def _unknown_key(path: KeyPath) -> str:
    allowed = _allowed_keys(Scenario, path[:-1])
    near = difflib.get_close_matches(str(path[-1]), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key (allowed: {', '.join(allowed)}){hint}" if allowed else "unknown key"


def _allowed_keys(model: Any, path: KeyPath) -> list[str]:
    """Keys of the schema part that `path` leads to; a union gives the keys of all its members."""
    members = [model]
    for part in path:
        if isinstance(part, int):
            continue
        annotations = [m.model_fields[part].annotation for m in members if part in m.model_fields]
        members = [found for annotation in annotations for found in _models_in(annotation)]
    return list(dict.fromkeys(name for member in members for name in member.model_fields))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models_in(inner)]
