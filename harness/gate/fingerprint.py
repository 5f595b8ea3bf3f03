"""Which machine a run was taken on: the facts without which two runs' times must not be held against each other.

In: a run's provenance. Out: `Fingerprint`, facts and their hash. Software is not part of it: a slower library is a
regression to be found, not another machine. A container whose host name changes with every job is named by the
environment variable HARNESS_MACHINE.
"""

import hashlib
import json
from dataclasses import dataclass

from harness.report.data import LoadedRun

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Facts by name, in order."""

    facts: tuple[tuple[str, str], ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.facts).encode()).hexdigest()

    @property
    def short(self) -> str:
        """As it names a folder of baselines."""
        return self.sha256[:12]

    def unlike(self, other: "Fingerprint") -> list[str]:
        """In words, each fact that is not the same."""
        mine, theirs = dict(self.facts), dict(other.facts)
        names = dict.fromkeys([*mine, *theirs])
        return [
            f"{name}: {mine.get(name, 'none')} in the baseline, {theirs.get(name, 'none')} now"
            for name in names
            if mine.get(name) != theirs.get(name)
        ]


def fingerprint(run: LoadedRun) -> Fingerprint:
    """Of the machine that took the run."""
    source = run.provenance
    cpu = source.get("cpu") or {}
    facts = {
        "host": source.get("host"),
        "cpu": cpu.get("name"),
        "cores": cpu.get("num_cores"),
        "memory": f"{round(cpu['memory_bytes'] / GIB)} GiB" if cpu.get("memory_bytes") else None,
        "gpus": ", ".join(f"{gpu.get('name')} {gpu.get('memory_bytes', 0) // GIB} GiB" for gpu in source.get("gpus") or ())
        or None,
        "driver": source.get("driver"),
    }
    return Fingerprint(tuple((name, str(value)) for name, value in facts.items() if value is not None))
