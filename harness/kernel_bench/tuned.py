"""From a bench to the table that selection reads: kernels/fp4moe/select/tuned/<gpu>.json.

In: bench rows. Out: entries, one a (weights, activations, shape), merged into the file: an entry of the same formats and
shape is replaced, others stay. The figures and the folder they come from stand in the entry. Which kernel is fastest is
decided in crossovers.py. Peers and the reference are no candidates.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from harness.errors import UsageError
from harness.kernel_bench.crossovers import NoCrossoversError, Time, best_layout, crossovers
from harness.kernel_bench.errors import not_allowed
from harness.kernel_bench.results import Bench, write_text
from harness.kernel_bench.rows import OK

KEY = ("weights", "activations", "hidden", "intermediate", "num_experts", "top_k")


@dataclass(frozen=True, slots=True)
class Proposal:
    """The file as it would be, and how it differs from what is there."""

    path: Path
    text: str
    diff: str
    layouts: dict[str, str]

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, self.text)


def propose(bench: Bench, *, layout: str | None, out: Path | None, record: str | None) -> Proposal:
    """UsageError for an unknown layout; NoCrossoversError where nothing can be derived."""
    rows = [row for row in bench.rows if row["status"] == OK and not row["is_peer"] and not row["is_reference"]]
    if not rows:
        raise NoCrossoversError(f"{bench.folder}: has no time of a kernel beside peers and the reference: nothing to tune")
    gpu = gpu_name(rows[0]["gpu"])
    path = out or tuned_folder() / f"{slug(gpu)}.json"
    record = record or str(bench.folder / "rows.jsonl")
    layouts, entries = {}, []
    for key in dict.fromkeys(tuple(row[name] for name in KEY) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in KEY) == key]
        chosen, entry = _entry(key, own, layout, record)
        layouts[own[0]["format"]] = chosen
        entries.append(entry)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = json.dumps({"gpu": gpu, "entries": _merged(before, entries, path)}, indent=2) + "\n"
    return Proposal(path, text, _diff(before, text, path), layouts)


def _entry(key: tuple, rows: list[dict], layout: str | None, record: str) -> tuple[str, dict]:
    times: dict[str, dict[str, dict[int, Time]]] = {}
    for row in rows:
        own = times.setdefault(row["layout"], {}).setdefault(row["kernel"], {})
        own[row["tokens"]] = Time(row["us_median"], row["us_iqr"])
    unlimited = _unlimited()
    if layout is not None and layout not in times:
        raise not_allowed(f"--layout for {rows[0]['format']}", layout, times)
    chosen = layout or best_layout(times, unlimited)
    ranges = crossovers(times[chosen], unlimited)
    measured = {
        name: {str(tokens): round(time.us, 2) for tokens, time in sorted(by_tokens.items())}
        for own in times.values()
        for name, by_tokens in own.items()
    }
    facts = {"microseconds": measured, "record": record, "routing": rows[0]["routing"]}
    entry = dict(zip(KEY, key, strict=True))
    entry["crossovers"] = [{"max_tokens": limit, "name": name} for limit, name in ranges]
    hashes = {row["kernel"]: row["own_sources_sha256"] for row in rows if row["kernel"] in {name for _, name in ranges}}
    return chosen, entry | {"measured": facts, "own_sources_sha256": hashes}


def _unlimited() -> set[str]:
    """Implementations of `experts` that take any number of tokens."""
    from harness.backends.moe_layer import experts_rows

    return {row.name for row in experts_rows() if row.takes_any_number}


def _merged(before: str, entries: list[dict], path: Path) -> list[dict]:
    try:
        old = json.loads(before)["entries"] if before else []
        new_keys = {tuple(entry[name] for name in KEY) for entry in entries}
        kept = [entry for entry in old if tuple(entry[name] for name in KEY) not in new_keys]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: cannot be read as a tuned table ({error}); move it away or give another --out") from None
    return kept + entries


def _diff(before: str, after: str, path: Path) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"{path} (now)", f"{path} (tuned)", lineterm="")
    return "\n".join(lines)


def tuned_folder() -> Path:
    """Where selection reads its tables."""
    return Path(next(iter(find_spec("fp4moe").submodule_search_locations))) / "select" / "tuned"


def gpu_name(reported: str) -> str:
    """ "H200" of "NVIDIA H200"; the reported name where the GPU is not in data/gpus.yaml."""
    from harness.device import kind_of

    kind = kind_of(reported)
    return reported if kind == "gpu" else kind


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
