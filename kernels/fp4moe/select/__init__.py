"""Which implementation runs an operation, and why not the others.

capability.py (what a device is), environment.py (its tools), limits.py (the shape) -> conditions.py (what a row needs) ->
implementation.py (a row) -> table.py (what exists) -> refusals.py (why not) -> choose.py (the answer) -> by_tokens.py (the
answer for every number of tokens, in order.py's preference) -> operations.py (for every operation of a layer, with tuned.py's
measurements); rounding.py says what rows round, peers.py what vLLM
would take. Imports no torch: the answer can be had for a GPU that is not attached.
"""

from fp4moe.select.by_tokens import ChoiceByTokens, Crossover, check_name, choose_by_tokens
from fp4moe.select.capability import Capability
from fp4moe.select.choose import Choice, choose, explain
from fp4moe.select.environment import COMPLETE, Environment
from fp4moe.select.implementation import Implementation
from fp4moe.select.limits import MoeShape, ShapeLimits
from fp4moe.select.operations import choose_operations
from fp4moe.select.peers import PeerChoice, explain_peers
from fp4moe.select.table import IMPLEMENTATIONS, NAMES, OPS
from fp4moe.select.tuned import Tuned, find_tuned

__all__ = [
    "COMPLETE",
    "IMPLEMENTATIONS",
    "NAMES",
    "OPS",
    "Capability",
    "Choice",
    "ChoiceByTokens",
    "Crossover",
    "Environment",
    "Implementation",
    "MoeShape",
    "PeerChoice",
    "ShapeLimits",
    "Tuned",
    "check_name",
    "choose",
    "choose_by_tokens",
    "choose_operations",
    "explain",
    "explain_peers",
    "find_tuned",
]
