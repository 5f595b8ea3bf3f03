"""Telemetry as a parquet file, and back: a row a reading of a device; facts in the file's metadata."""

import json
from dataclasses import asdict
from pathlib import Path

from harness.telemetry.sample import COLUMNS, DeviceFacts, Sample
from harness.telemetry.sampler import Telemetry

META = b"harness.telemetry"
INTEGERS = ("time_ns", "throttle_reasons", "memory_used_bytes", "num_processes", "other_processes_bytes", "rss_bytes")


def write(path: Path, telemetry: Telemetry) -> None:
    """All samples in order of their time."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    fields = [(name, pa.string() if name == "device" else pa.int64() if name in INTEGERS else pa.float64()) for name in COLUMNS]
    rows = [asdict(sample) for sample in sorted(telemetry.samples, key=lambda sample: sample.time_ns)]
    about = {"facts": [asdict(fact) for fact in telemetry.facts], "rate_hz": telemetry.rate_hz, "problem": telemetry.problem}
    schema = pa.schema(fields, metadata={META: json.dumps(about).encode()})
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def read(path: Path) -> Telemetry:
    """What `write` wrote."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    about = json.loads(table.schema.metadata[META])
    facts = [DeviceFacts(**(fact | {"missing": tuple(map(tuple, fact["missing"]))})) for fact in about["facts"]]
    return Telemetry([Sample(**row) for row in table.to_pylist()], facts, about["rate_hz"], about["problem"])
