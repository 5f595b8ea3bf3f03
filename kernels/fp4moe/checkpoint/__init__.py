"""Checkpoints of other tools in and out; see storages.py for the layouts.

open_checkpoint and read_hf read, export writes, stack_gate_up and stack_experts join what was read for fused
execution.
"""

from fp4moe.checkpoint.export import LAYOUTS, export
from fp4moe.checkpoint.random_checkpoint import write_random
from fp4moe.checkpoint.reader import Checkpoint, open_checkpoint, read_hf
from fp4moe.checkpoint.stack import ExpertStack, split_rows, stack_experts, stack_gate_up
from fp4moe.checkpoint.storages import STORAGES

__all__ = [
    "LAYOUTS",
    "STORAGES",
    "Checkpoint",
    "ExpertStack",
    "export",
    "open_checkpoint",
    "read_hf",
    "split_rows",
    "stack_experts",
    "stack_gate_up",
    "write_random",
]
