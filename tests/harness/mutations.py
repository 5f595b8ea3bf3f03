"""Seeded ways to spoil a scenario's text or a checkpoint's files.

In: a `random.Random`. Out: changed text, or changed files. What comes out may still be right: a test asks only that it
is either accepted or refused with a message.
"""

import copy
import datetime
import json
import random
from collections.abc import Callable
from pathlib import Path

import yaml

JUNK = (
    None, True, False, -1, 0, 1, 2**31, -(10**30), 10**30, 10**400, 0.5, -0.0, 1e308, 1e-320,
    float("nan"), float("inf"), float("-inf"), "", " ", "-1", "null", "nvfp4", "closed", "any", "a" * 5000, "../..", "/",
    "~nobody-of-that-name/x", "x\x00y", "\x1b[31m", "tab\tand\nline", "größer 🦄", "\u202e", "%s {0} {x}",
    [], {}, [[]], [None], [[[[1]]]], {"a": {"b": [1, {"c": None}]}}, {1: 2}, {None: None}, {"": ""},
    datetime.date(2026, 1, 1), b"\x00\xff",
)  # fmt: skip
"""Values that a key may be given; some are right for some keys."""


def paths_in(node: object, path: tuple = ()) -> list[tuple]:
    """Key paths of every value below `node`, itself left out."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [inner for key, value in items for inner in ((*path, key), *paths_in(value, (*path, key)))]


def at(data: object, path: tuple) -> object:
    for part in path:
        data = data[part]
    return data


def _dump(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def replace_value(data: dict, rng: random.Random) -> str:
    path = rng.choice(paths_in(data))
    at(data, path[:-1])[path[-1]] = copy.deepcopy(rng.choice(JUNK))
    return _dump(data)


def replace_several(data: dict, rng: random.Random) -> str:
    for _ in range(3):
        replace_value(data, rng)
    return _dump(data)


def delete_key(data: dict, rng: random.Random) -> str:
    path = rng.choice(paths_in(data))
    del at(data, path[:-1])[path[-1]]
    return _dump(data)


def rename_key(data: dict, rng: random.Random) -> str:
    path = rng.choice([path for path in paths_in(data) if isinstance(path[-1], str)])
    parent, name = at(data, path[:-1]), path[-1]
    cut = rng.randrange(len(name))
    parent[rng.choice([name[:cut] + name[cut + 1 :], name.upper(), f"{name} ", name + name, 7, None, "größe"])] = parent.pop(
        name
    )
    return _dump(data)


def wrap_value(data: dict, rng: random.Random) -> str:
    path = rng.choice(paths_in(data))
    parent = at(data, path[:-1])
    value = parent[path[-1]]
    parent[path[-1]] = rng.choice([[value], {path[-1]: value}, str(value), [value, value]])
    return _dump(data)


def swap_values(data: dict, rng: random.Random) -> str:
    one, other = rng.sample([path for path in paths_in(data) if len(path) == 1], 2)
    data[one[0]], data[other[0]] = data[other[0]], data[one[0]]
    return _dump(data)


def nest_deeply(data: dict, rng: random.Random) -> str:
    path = rng.choice([path for path in paths_in(data) if len(path) == 1])
    depth = rng.choice([20, 40, 200, 2000, 20_000])
    opening, closing = rng.choice([("[", "]"), ("{a: ", "}")])
    del data[path[0]]
    return _dump(data) + f"{path[0]}: {opening * depth}1{closing * depth}\n"


def alias_bomb(data: dict, rng: random.Random) -> str:
    width, height = rng.choice([(9, 9), (2, 30), (40, 3)])
    names = [f"a{level}" for level in range(height)]
    inner = rng.choice(["[*{0}]", "{{<<: [*{0}]}}", "{{{1}}}"])
    lines = [f"{names[0]}: &{names[0]} {{x: 1}}"]
    for below, name in zip(names, names[1:], strict=False):
        listed = ", ".join([below] + [f"*{below}"] * (width - 1))
        pairs = ", ".join(f"k{index}: *{below}" for index in range(width))
        lines.append(f"{name}: &{name} " + inner.format(listed.removeprefix(f"{below}, *"), pairs))
    return _dump(data) + "\n".join(lines) + "\n"


def enormous_number(data: dict, rng: random.Random) -> str:
    path = rng.choice([path for path in paths_in(data) if isinstance(at(data, path), int | float)])
    at(data, path[:-1])[path[-1]] = "ENORMOUS"
    number = rng.choice(["9" * 5000, "0x" + "f" * 50_000, "1" + ":59" * 200, "1e99999", "-" + "7" * 300, "0b" + "1" * 300])
    return _dump(data).replace("ENORMOUS", number)


SYNTAX = (
    "extra: !!python/object/apply:os.system ['true']", "extra: !!int ten", "extra: !!timestamp then", "extra: !!bool maybe",
    "extra: 2026-99-99", "? [a, b]\n: c", "? {a: b}\n: c", "extra: &x [*x]", "extra: *unknown", "---\nname: other", "\t", "'",
    "extra: \"\\ud800\"", "%YAML 9.9", "<<: {repeats: 2}", "<<: [1]", "@", "repeats: =", "extra: |\n  text", "? a", "...\nb: 1",
    "\x00", "\x07", "\ufeff", "\u2028", "!!omap [a: 1]", "extra: !!set {a, b}",
    "extra: !!binary '='",
    "name: &name t", "- item",
)  # fmt: skip


def insert_syntax(data: dict, rng: random.Random) -> str:
    lines = _dump(data).splitlines()
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(SYNTAX))
    return "\n".join(lines) + "\n"


def repeat_a_line(data: dict, rng: random.Random) -> str:
    lines = _dump(data).splitlines()
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return "\n".join(lines) + "\n"


def shift_a_line(data: dict, rng: random.Random) -> str:
    lines = _dump(data).splitlines()
    index = rng.randrange(len(lines))
    lines[index] = rng.choice(["\t", " ", "    ", "  - "]) + lines[index]
    return "\n".join(lines) + "\n"


def truncate_text(data: dict, rng: random.Random) -> str:
    text = _dump(data)
    return text[: rng.randrange(len(text))]


def flip_bytes(data: dict, rng: random.Random) -> bytes:
    content = bytearray(_dump(data).encode())
    for _ in range(rng.choice([1, 1, 2, 8])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


SCENARIO_MUTATIONS: tuple[Callable[[dict, random.Random], str | bytes], ...] = (
    replace_value, replace_several, delete_key, rename_key, wrap_value, swap_values, nest_deeply, alias_bomb,
    enormous_number, insert_syntax, insert_syntax, repeat_a_line, shift_a_line, truncate_text, flip_bytes, replace_value,
)  # fmt: skip


def _flip_in(file: Path, rng: random.Random, start: int, end: int) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 2, 16])):
        content[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def _header_end(file: Path) -> int:
    return 8 + int.from_bytes(file.read_bytes()[:8], "little")


def flip_header_length(folder: Path, rng: random.Random) -> None:
    _flip_in(folder / "model.safetensors", rng, 0, 8)


def flip_header(folder: Path, rng: random.Random) -> None:
    file = folder / "model.safetensors"
    _flip_in(file, rng, 8, _header_end(file))


def flip_data(folder: Path, rng: random.Random) -> None:
    file = folder / "model.safetensors"
    _flip_in(file, rng, _header_end(file), file.stat().st_size)


def set_exponents(folder: Path, rng: random.Random) -> None:
    """A BF16 whose high byte is 0x7f and low byte at least 0x80 is inf or NaN."""
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    place = _header_end(file) + 2 * rng.randrange((len(content) - _header_end(file)) // 2)
    content[place : place + 2] = bytes([rng.randrange(128, 256), rng.choice([0x7F, 0xFF])])
    file.write_bytes(content)


def resize_weights(folder: Path, rng: random.Random) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(rng.choice([content[: rng.randrange(len(content))], content + b"\0" * rng.randrange(1, 99)]))


def change_config_value(folder: Path, rng: random.Random) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    keys = [*config, "rope_parameters", "rope_scaling", "quantization_config", "sliding_window", "hidden_act"]
    values = [value for value in JUNK if not isinstance(value, bytes | datetime.date)] + [3, 63, 65, 4096, {"rope_theta": []}]
    config[rng.choice(keys)] = rng.choice(values)
    file.write_text(json.dumps(config))


def damage_config_text(folder: Path, rng: random.Random) -> None:
    file = folder / "config.json"
    _flip_in(file, rng, 0, file.stat().st_size)


def damage_tokenizer(folder: Path, rng: random.Random) -> None:
    file = folder / "tokenizer.json"
    if rng.random() < 0.5:
        _flip_in(file, rng, 0, file.stat().st_size)
        return
    tokenizer = json.loads(file.read_text())
    part = rng.choice([path for path in paths_in(tokenizer) if len(path) <= 2])
    at(tokenizer, part[:-1])[part[-1]] = rng.choice([None, {}, [], "x", -1, {"type": "BPE"}])
    file.write_text(json.dumps(tokenizer))


def invent_index(folder: Path, rng: random.Random) -> None:
    names = ["model.norm.weight", "lm_head.weight"]
    files = ["model.safetensors", "../mine/model.safetensors", "config.json", "none", "", ".", 5, None, ["x"]]
    content = rng.choice([[], {}, {"weight_map": 1}, {"weight_map": {rng.choice(names): rng.choice(files)}}])
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


CHECKPOINT_MUTATIONS: tuple[Callable[[Path, random.Random], None], ...] = (
    flip_header_length, flip_header, flip_header, flip_data, set_exponents, resize_weights, change_config_value,
    change_config_value, damage_config_text, damage_tokenizer, invent_index, change_config_value,
)  # fmt: skip
