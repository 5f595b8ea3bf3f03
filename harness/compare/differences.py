"""What differs between the machines, clocks and software of the runs that are compared.

In: runs. Out: `Difference` rows, grouped; a comparison lists them, it is `gate` that refuses unlike machines.
Whatever a run's provenance holds takes part, so that a fact that is recorded later is listed too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.report.data import LoadedRun

GROUPS = ("machine", "clocks", "software", "scenario")
_MACHINE = ("cpu", "gpus", "host", "os", "driver")
_NOT_FACTS = ("command_line",)
CLOCK_STEP_MHZ = 15
"""GPU clocks move in steps of 15 MHz; less than that is no difference."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that is not the same in all runs; `values` in the order of the runs, None where not recorded."""

    group: str
    name: str
    values: tuple[str | None, ...]


def differences_between(runs: Sequence[LoadedRun]) -> tuple[Difference, ...]:
    """Every recorded fact that differs, machine first."""
    facts = [_facts(run) for run in runs]
    names = dict.fromkeys(name for found in facts for name in found)
    rows = [Difference(_group(name), name, tuple(found.get(name) for found in facts)) for name in names]
    unlike = [row for row in rows if len(set(_known(row.values, runs))) > 1]
    return tuple(sorted(unlike, key=lambda row: GROUPS.index(row.group)))


def _known(values: Sequence[str | None], runs: Sequence[LoadedRun]) -> list[str | None]:
    """Without what another tool's file does not say, which is no difference."""
    return [value for value, run in zip(values, runs, strict=True) if value is not None or "imported" not in run.info]


def _facts(run: LoadedRun) -> dict[str, str]:
    source = {key: value for key, value in run.provenance.items() if key not in _NOT_FACTS}
    gpus = source.pop("gpus", None) or []
    facts = {}
    if gpus:
        source["gpu"] = gpus[0]
        facts["gpu.count"] = str(len(gpus))
    facts |= _flat(source)
    facts |= _clocks(run)
    scenario = run.info.get("scenario") or {}
    facts |= {f"scenario.{key}": _text(scenario[key]) for key in ("repeats", "cpu_threads", "kernels") if key in scenario}
    return facts


def _clocks(run: LoadedRun) -> dict[str, str]:
    """Clocks that telemetry saw while the run's cells were measured, median over the records, to CLOCK_STEP_MHZ."""
    found: dict[str, list[float]] = {}
    for record in run.records:
        for name, entry in (record.get("metrics") or {}).items():
            if name.endswith("_clock_mhz") and entry.get("value") is not None:
                found.setdefault(name, []).append(entry["value"])
    return {name: f"{CLOCK_STEP_MHZ * round(median(values) / CLOCK_STEP_MHZ)} MHz" for name, values in found.items()}


def _flat(value: dict, path: str = "") -> dict[str, str]:
    found = {}
    for key, inner in value.items():
        name = f"{path}.{key}" if path else key
        if isinstance(inner, dict):
            found |= _flat(inner, name)
        elif inner is not None:
            found[name] = _text(inner)
    return found


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return str(value)


def _group(name: str) -> str:
    if "clock" in name or "power" in name or "governor" in name:
        return "clocks"
    if name.startswith("scenario.") or name == "seed":
        return "scenario"
    return "machine" if name.split(".")[0] in (*_MACHINE, "gpu") else "software"
