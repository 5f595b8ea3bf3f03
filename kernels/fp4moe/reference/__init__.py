"""The MoE operations in plain torch: the definition of right.

In: stored operands (see layouts.py) and float32 activations. Out: float32. Every other implementation carries
the same names and signatures and is compared with these. Written to be read first; fast enough on a CPU for a
pocket-sized model.
"""

from fp4moe.reference.gemm import down, gate_up
from fp4moe.reference.load_balance import load_balance_loss
from fp4moe.reference.product import product
from fp4moe.reference.route import Routing, route

__all__ = ["Routing", "down", "gate_up", "load_balance_loss", "product", "route"]
