"""Each kind of work of a decode step, layer by layer, on the roofline: bytes, operations, time, share of the measured ceilings.

In: a record's `profile` block (facts, layers). Out: `Point`s. Bytes are what must be read at least: the experts really hit x
(codes + scales), the projections, the keys and values of the mean context, the head. Gate-up and down share an expert's bytes
2 : 1, as their sizes are. Activations are left out: at decode they are less than a hundredth of the weights.

    limit_us = max(bytes / read ceiling, operations / product ceiling)
"""

from dataclasses import dataclass

GATE_UP, DOWN = "gate-up GEMM", "down GEMM"
PROJECTIONS = "attention projections"
"""A range of its own in the GPU engine, where `attention` is what reads keys and values; elsewhere `attention` is both."""
PLACED = ("attention", PROJECTIONS, "route", "experts", GATE_UP, DOWN, "head")


@dataclass(frozen=True, slots=True)
class Point:
    """One kind of work in one layer (None: outside layers), means a decode step. `is_gpu`: GPU time; else the host's."""

    layer: int | None
    name: str
    num_bytes: float
    flops: float
    us: float
    is_gpu: bool
    limit_us: float
    bound_by: str
    experts_hit: float | None = None

    @property
    def gb_s(self) -> float:
        return self.num_bytes / self.us / 1e3

    @property
    def tflops(self) -> float:
        return self.flops / self.us / 1e6

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.num_bytes

    @property
    def share(self) -> float:
        """Of the ceiling: 1 is the limit."""
        return self.limit_us / self.us


def points(block: dict) -> list[Point]:
    """Every placed kind of work of every layer; empty where the facts are not in the record."""
    facts = block.get("facts")
    if not facts or not facts.get("experts_hit"):
        return []
    found, is_apart = [], any(row["name"] == PROJECTIONS for row in block["layers"])
    for row in block["layers"]:
        us = row["gpu_us"] if row["gpu_us"] else row["host_us"]
        if row["name"] in PLACED and us:
            found.append(_point(row, us * row["calls"], facts, is_gpu=bool(row["gpu_us"]), is_apart=is_apart))
    return found


def _point(row: dict, us: float, facts: dict, *, is_gpu: bool, is_apart: bool) -> Point:
    layer, name = row["layer"], row["name"]
    hit = facts["experts_hit"][layer] if layer is not None else None
    num_bytes, flops = work_of(name, facts, hit, is_apart=is_apart)
    read_us, product_us = times_us(num_bytes, flops, facts)
    bound = "read" if read_us >= product_us else "product"
    is_expert = name in ("experts", GATE_UP, DOWN)
    return Point(layer, name, num_bytes, flops, us, is_gpu, max(read_us, product_us), bound, hit if is_expert else None)


def times_us(num_bytes: float, flops: float, facts: dict) -> tuple[float, float]:
    """(microseconds of reading, of computing) at the ceilings of `facts`."""
    ceilings = facts["ceilings"]
    product = ceilings["product_tflops"][facts["product_kind"]]
    return num_bytes / ceilings["best_read_gb_s"] / 1e3, flops / product / 1e6


def work_of(name: str, facts: dict, hit: float | None, *, is_apart: bool = False) -> tuple[float, float]:
    """(bytes, operations) of one call of a decode step; `is_apart`: projections are a range of their own."""
    if "attention" in name:
        return _attention(name, facts, is_apart=is_apart)
    tokens, hidden = facts["decode_tokens"], facts["hidden"]
    experts_flops = 2 * tokens * facts["top_k"] * 3 * hidden * facts["intermediate"]
    shares = {"experts": 1.0, GATE_UP: 2 / 3, DOWN: 1 / 3}
    if name in shares:
        return shares[name] * hit * facts["expert_bytes"], shares[name] * experts_flops
    if name == "route":
        return facts["router_bytes"], 2 * tokens * hidden * facts["num_experts"]
    return facts["head_bytes"], 2 * tokens * hidden * facts["vocab"]


def _attention(name: str, facts: dict, *, is_apart: bool) -> tuple[float, float]:
    """(bytes, operations) of projections, keys and values, or of one of the two where they are ranges of their own."""
    tokens = facts["decode_tokens"]
    values = tokens * facts["mean_context"]
    kv_bytes = 2 * values * facts["kv_heads"] * facts["head_dim"] * facts["kv_bytes_per_value"]
    kv = (kv_bytes, 4 * values * facts["heads"] * facts["head_dim"])
    projections = (facts["attention_bytes"], 2 * tokens * facts["attention_bytes"] / 2)  # BF16: two bytes a weight
    if name == PROJECTIONS:
        return projections
    return kv if is_apart else (projections[0] + kv[0], projections[1] + kv[1])


def by_name(found: list[Point]) -> list[Point]:
    """Layers added up: one point a kind of work, in the order of PLACED."""
    merged = []
    for name in PLACED:
        ours = [point for point in found if point.name == name]
        if ours:
            hits = [point.experts_hit for point in ours if point.experts_hit is not None]
            first = ours[0]
            merged.append(
                Point(
                    None,
                    name,
                    sum(p.num_bytes for p in ours),
                    sum(p.flops for p in ours),
                    sum(p.us for p in ours),
                    first.is_gpu,
                    sum(p.limit_us for p in ours),
                    first.bound_by,
                    sum(hits) / len(hits) if hits else None,
                )
            )
    return merged
