"""Arithmetic of the roofline: what a layer must read and compute, and the shares of the measured ceilings.

In: shape, format, tokens, experts hit, ceilings. Out: `Limit` and the derived figures of a row. No device, no torch.

    limit_us = max(bytes of the experts hit / read ceiling, operations / product ceiling)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.kernel_bench.formats import PRODUCT_OF, BenchFormat
from harness.kernel_bench.rows import OK
from harness.kernel_bench.shapes import LayerShape

FALLBACK = {"fp4": ("fp4", "fp8", "bf16"), "fp8": ("fp8", "bf16"), "bf16": ("bf16",), "fp32": ("fp32",)}
"""Kind of product -> the ceilings to hold it against, the first that was measured; the row names it."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Measured on this device in this run. read_gb_s and product_tflops by pattern and by kind of operands."""

    read_gb_s: dict[str, float]
    product_tflops: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def read_pattern(self) -> str:
        """The pattern that read fastest."""
        return max(self.read_gb_s, key=self.read_gb_s.get)

    @property
    def best_read_gb_s(self) -> float:
        return self.read_gb_s[self.read_pattern]

    def product_kind(self, activations: str) -> str:
        """Which measured product stands for operands of this activation format."""
        wanted = PRODUCT_OF[activations]
        kinds = [*FALLBACK[wanted], "fp32"]
        return next(kind for kind in kinds if kind in self.product_tflops)

    def to_json(self) -> dict:
        return {
            "read_gb_s": self.read_gb_s,
            "read_pattern": self.read_pattern,
            "best_read_gb_s": self.best_read_gb_s,
            "product_tflops": self.product_tflops,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Limit:
    """What no implementation can beat, by this run's ceilings."""

    weight_bytes: float
    flops: float
    read_us: float
    product_us: float
    product_kind: str

    @property
    def us(self) -> float:
        return max(self.read_us, self.product_us)

    @property
    def bound_by(self) -> str:
        """ "read" or "product"."""
        return "read" if self.read_us >= self.product_us else "product"


def limit_of(shape: LayerShape, form: BenchFormat, tokens: int, *, experts_hit: float, ceilings: Ceilings) -> Limit:
    """`experts_hit` may be a mean over copies of the layer."""
    weight_bytes = experts_hit * form.bytes_an_expert(shape.expert_weights)
    flops = shape.flops(tokens)
    kind = ceilings.product_kind(form.activations)
    # GB/s is 1e3 bytes a microsecond, TFLOP/s 1e6 operations a microsecond.
    read_us = weight_bytes / ceilings.best_read_gb_s / 1e3
    return Limit(weight_bytes, flops, read_us, flops / ceilings.product_tflops[kind] / 1e6, kind)


def figures(limit: Limit, us: float, ceilings: Ceilings) -> dict[str, float]:
    """The derived columns of a measured row."""
    gb_s, tflops = limit.weight_bytes / us / 1e3, limit.flops / us / 1e6
    return {
        "weight_gb_s": gb_s,
        "tflops": tflops,
        "share_of_read_ceiling": gb_s / ceilings.best_read_gb_s,
        "share_of_product_ceiling": tflops / ceilings.product_tflops[limit.product_kind],
        "ratio_to_limit": us / limit.us,
    }


def products_beaten(product_tflops: Mapping[str, float], rows: Iterable[dict]) -> dict[str, dict]:
    """By kind of operands, the measured row that multiplied fastest where that was faster than the library's product.

    TFLOP/s. The library's product is one shape at one moment: under a power cap, operands that switch fewer bits run at a
    higher clock. Rows of operands without a product of their own (FP4 held against FP8's) say nothing of another unit.
    """
    beaten: dict[str, dict] = {}
    for row in rows:
        kind = PRODUCT_OF[row["activations"]]
        best = beaten[kind]["tflops"] if kind in beaten else product_tflops.get(kind)
        if row["status"] == OK and best is not None and row["tflops"] > best:
            beaten[kind] = row
    return beaten


def reached_tflops(product_tflops: Mapping[str, float], rows: Iterable[dict]) -> dict[str, float]:
    """TFLOP/s by kind of operands: the most that anything of the run reached, the library's product or a kernel's row."""
    beaten = products_beaten(product_tflops, rows)
    return dict(product_tflops) | {kind: row["tflops"] for kind, row in beaten.items()}


def num_copies(l2_bytes: int, smallest_bytes: float) -> int:
    """Copies of the layer so that what lies between two reads of a weight is at least four times the L2; at least 4.

    `smallest_bytes`: what the fewest experts that one copy can be asked for take. Four, so that a mean over the copies'
    routings says something about the experts hit.
    """
    needed = -(-4 * l2_bytes // max(1, int(smallest_bytes)))
    return max(4, needed)
