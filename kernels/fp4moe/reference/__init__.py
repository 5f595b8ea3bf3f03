"""The MoE operations in plain torch: the definition of right.

In: stored operands (see layouts.py) and activations. Out: float32, or what came in. The operations of the table are
`route` and `experts`; every other implementation has their signatures and is compared with these. `gate_up` and `down` are
the two halves of `experts`. Written to be read first; fast enough on a CPU for a
pocket-sized model.
"""

from fp4moe.reference.gemm import down, experts, gate_up
from fp4moe.reference.load_balance import load_balance_loss
from fp4moe.reference.product import product
from fp4moe.reference.route import Routing, route

__all__ = ["Routing", "down", "experts", "gate_up", "load_balance_loss", "product", "route"]
