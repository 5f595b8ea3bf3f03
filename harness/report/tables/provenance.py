"""Table of provenance: scenario, commit, command, machine, software and seed of each run, a column a run.

In: runs. Out: Table, and the scenario as text. What was not recorded is a dash.
"""

import json
from collections.abc import Sequence

from harness.report.data import LoadedRun
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.numbers import bytes_text, count

DIRTY = {True: " with uncommitted changes", False: ", clean"}


def machines_table(runs: Sequence[LoadedRun]) -> Table:
    """A row a fact, a column a run."""
    notes = Footnotes()
    facts = [_run_facts(run) | _machine_facts(run) for run in runs]
    rows = tuple((Entry(key, tone="head"), *(_entry(found[key], notes) for found in facts)) for key in facts[0])
    return table("What ran where.", ("Fact", *(run.run_id for run in runs)), [Group("", rows)], notes)


def _entry(text: str, notes: Footnotes) -> Entry:
    return Entry(text, tone="text") if text else notes.dash("not recorded")


def _run_facts(run: LoadedRun) -> dict[str, str]:
    source, info = run.provenance, run.info
    commit = str(source.get("git_commit") or "")
    weights = ((r["model"], (r.get("weights") or {}).get("source")) for r in run.records)
    sources = (f"{model}, {source} weights" for model, source in weights if source)
    return {
        "Scenario": f"{run.scenario_name} {_short(info.get('scenario_sha256'))}".strip(),
        "Description": run.description,
        "Models": "; ".join(dict.fromkeys(sources)),
        "Seed": _words(source.get("seed")),
        "Started": _words(info.get("started_utc")),
        "Finished": _words(info.get("finished_utc")) or "not finished",
        "Git commit": commit[:12] + DIRTY.get(source.get("git_dirty"), "") if commit else "",
        "Kernel sources": _short(source.get("kernel_sources_sha256")),
        "Command line": _words(source.get("command_line")),
    }


def _machine_facts(run: LoadedRun) -> dict[str, str]:
    source = run.provenance
    cpu = source.get("cpu") or {}
    cores = count(cpu["num_cores"], "core") if cpu.get("num_cores") else ""
    memory = bytes_text(cpu["memory_bytes"]) if cpu.get("memory_bytes") else ""
    libraries = (f"{name} {version}" for name, version in (source.get("libraries") or {}).items())
    return {
        "Host": _words(source.get("host")),
        "Operating system": _words(source.get("os")),
        "CPU": ", ".join(filter(None, (cpu.get("name"), cores, memory))),
        "GPU": "; ".join(_gpu(gpu) for gpu in source.get("gpus") or ()) or "none",
        "Driver": _words(source.get("driver")) or "none",
        "Python": _words(source.get("python")),
        "Libraries": ", ".join(libraries),
    }


def _gpu(gpu: dict) -> str:
    memory = bytes_text(gpu["memory_bytes"]) if gpu.get("memory_bytes") else ""
    return ", ".join(filter(None, (gpu.get("name"), gpu.get("capability"), memory)))


def _short(digest: object) -> str:
    return str(digest or "")[:12]


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(str(word) for word in value)
    return "" if value is None else str(value)


def scenario_text(run: LoadedRun) -> str:
    """The scenario as resolved, as JSON."""
    return json.dumps(run.info.get("scenario") or {}, indent=2, ensure_ascii=False)
