"""Which implementation runs an operation, and why not the others.

capability.py (what a device is) -> conditions.py (what a row needs) -> table.py (what exists) -> choose.py
(the answer); peers.py says what vLLM would take. Imports no torch: the answer can be had for a GPU that is
not attached.
"""

from fp4moe.select.capability import Capability
from fp4moe.select.choose import Choice, choose, explain
from fp4moe.select.peers import PeerChoice, explain_peers
from fp4moe.select.table import IMPLEMENTATIONS, OPS, Implementation

__all__ = [
    "IMPLEMENTATIONS",
    "OPS",
    "Capability",
    "Choice",
    "Implementation",
    "PeerChoice",
    "choose",
    "explain",
    "explain_peers",
]
