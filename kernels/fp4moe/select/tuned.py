"""Which implementation is faster at which number of tokens, as measured on a GPU: tuned/<gpu>.json, package data.

In: the name that a GPU reports, formats, shape. Out: `Tuned`, or None where that was not measured; the table's order then
holds. A file holds {"gpu", "entries": [{"weights", "activations", "hidden", "intermediate", "num_experts", "top_k",
"crossovers": [{"max_tokens", "name"}], "measured": {"microseconds", "record"}, "own_sources_sha256": {name: hash}}]};
max_tokens null is any number. Written by the tuner, never by hand. Whether a named row runs here is not decided here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from fp4moe.errors import SelectionError
from fp4moe.select.limits import MoeShape


@dataclass(frozen=True, slots=True)
class Tuned:
    """One entry. crossovers: (most tokens or None, implementation), ascending; record: where the figures are; of each
    implementation in it, the hash over its own sources when they were taken; of each that was measured, us by tokens.
    """

    gpu: str
    weights: str
    activations: str
    shape: MoeShape
    crossovers: tuple[tuple[int | None, str], ...]
    record: str | None
    own_sources_sha256: dict[str, str]
    microseconds: dict[str, dict[int, float]] = field(default_factory=dict)


def find_tuned(
    gpu: str, weights: str, activations: str, shape: MoeShape, *, table: Iterable[Tuned] | None = None
) -> Tuned | None:
    """The entry of this GPU, formats and shape; `gpu` is a name as the driver reports it, or a table's own."""
    words = _words(gpu)
    for entry in all_tuned() if table is None else table:
        same = (entry.weights, entry.activations, entry.shape) == (weights, activations, shape)
        if same and _words(entry.gpu) <= words:
            return entry
    return None


@cache
def all_tuned() -> tuple[Tuned, ...]:
    """Every entry of every file; SelectionError names file and entry where one cannot be read."""
    folder = files("fp4moe.select").joinpath("tuned")
    if not folder.is_dir():
        return ()
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(entry for file in found for entry in parse_tuned(file.read_text(encoding="utf-8"), file.name))


def parse_tuned(text: str, place: str) -> tuple[Tuned, ...]:
    """The entries of one file."""
    try:
        data = json.loads(text)
        entries = [(index, entry) for index, entry in enumerate(data["entries"])]
        gpu = data["gpu"]
    except (ValueError, KeyError, TypeError) as error:
        raise SelectionError(f"{place}: must be an object with gpu and entries ({error}); run harness kernels tune") from None
    return tuple(_parse_entry(gpu, entry, f"{Path(place).name}: entries[{index}]") for index, entry in entries)


def _parse_entry(gpu: str, entry: dict, place: str) -> Tuned:
    try:
        shape = MoeShape(entry["hidden"], entry["intermediate"], entry["num_experts"], entry["top_k"])
        crossovers = tuple((item["max_tokens"], item["name"]) for item in entry["crossovers"])
        formats = entry["weights"], entry["activations"]
        measured = entry.get("measured") or {}
        times = {name: _by_tokens(own) for name, own in (measured.get("microseconds") or {}).items()}
    except (KeyError, TypeError) as error:
        raise SelectionError(f"{place}: lacks {error}; run harness kernels tune again") from None
    except (ValueError, AttributeError) as error:
        said = f"must hold microseconds by kernel and tokens ({error}); run harness kernels tune again"
        raise SelectionError(f"{place}.measured: {said}") from None
    limits = [float("inf") if limit is None else limit for limit, _ in crossovers]
    if not limits or limits[-1] != float("inf") or limits != sorted(set(limits)) or limits[0] < 1:
        raise SelectionError(f"{place}.crossovers: max_tokens must ascend from 1 and end with null (got {limits})")
    hashes = dict(entry.get("own_sources_sha256") or {})
    return Tuned(gpu, *formats, shape, crossovers, measured.get("record"), hashes, times)


def _by_tokens(times: dict[str, float]) -> dict[int, float]:
    return {int(tokens): float(us) for tokens, us in times.items()}


def _words(name: str) -> frozenset[str]:
    """ "NVIDIA A100-SXM4-80GB" holds the word a100; GH200 is not H200."""
    return frozenset(re.findall(r"[a-z0-9]+", name.lower()))
