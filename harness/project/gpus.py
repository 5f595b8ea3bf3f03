"""A GPU as the projection sees it: what its data sheet says, from data/gpus.yaml.

In: a name as a person writes it. Out: GpuSpec. Every figure is the maker's, none was measured here; `source` says whose.
"""

from dataclasses import dataclass

from harness.device import gpu_table, named
from harness.errors import UsageError

VALIDATED_CAPABILITY = "9.0"
"""The only architecture on which layers and models were measured: elsewhere a projection is a range."""


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """Data-sheet figures of one GPU."""

    name: str
    capability: str
    memory_kind: str
    memory_bytes: int
    """Total as nvidia-smi reports it."""
    read_gb_s: float
    product_tflops: dict[str, float]
    """Dense rate by kind of operands: bf16, fp8, fp4; absent where the GPU has no such unit."""
    num_sms: int
    boost_ghz: float
    source: str

    @property
    def issue_rate(self) -> float:
        """SM clocks a nanosecond: what every rate of instructions is in proportion to."""
        return self.num_sms * self.boost_ghz

    @property
    def is_validated(self) -> bool:
        return self.capability == VALIDATED_CAPABILITY

    @property
    def family(self) -> str:
        """`sm_90`."""
        return f"sm_{self.capability.replace('.', '')}"


def gpu_spec(name: str, option: str = "--gpu") -> GpuSpec:
    """The GPU of that name; UsageError with the known ones."""
    if name.strip().lower() == "cpu":
        raise UsageError(f"{option} {name!r}: a CPU cannot be projected (allowed: {', '.join(gpu_table())})")
    try:
        kind = named(name).kind
    except UsageError:
        raise UsageError(f"{option} {name!r}: not a known GPU (allowed: {', '.join(gpu_table())})") from None
    row = gpu_table()[kind]
    rates = {key: row[f"{key}_tflops"] for key in ("bf16", "fp8", "fp4")}
    return GpuSpec(
        name=kind,
        capability=row["capability"],
        memory_kind=row["memory_kind"],
        memory_bytes=row["reported_mib"] * 2**20,
        read_gb_s=row["bandwidth_tb_s"] * 1e3,
        product_tflops={key: float(rate) for key, rate in rates.items() if rate is not None},
        num_sms=row["num_sms"],
        boost_ghz=row["boost_ghz"],
        source=row["source"],
    )
