"""What PyTorch's allocator holds on a GPU, by use; on a CPU, why there is nothing of the kind.

In: a torch device. Out: metric values: reserved, slack, private pools of CUDA graphs. A graph's pool holds the activations of
the captured step, so it is not added to them. Workspaces of our kernels are tensors, inside the activations' peak.
"""

from typing import Any

from harness.collect.values import measured, missing

NAMES = ("reserved_bytes", "allocator_slack_bytes", "graph_pool_bytes")
DEFAULT_POOL = (0, 0)
"""segment_pool_id of memory that belongs to no graph."""


def device_memory(device: Any) -> dict[str, dict]:
    """After the measurement, before the next."""
    if device.type != "cuda":
        return {name: missing(name, "the run was on a CPU: PyTorch's CUDA allocator took no part") for name in NAMES}
    import torch

    reserved = torch.cuda.memory_reserved(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    segments = [segment for segment in torch.cuda.memory_snapshot() if segment["device"] == index]
    in_graphs = sum(s["total_size"] for s in segments if tuple(s.get("segment_pool_id", DEFAULT_POOL)) != DEFAULT_POOL)
    values = (reserved, reserved - torch.cuda.memory_allocated(device), in_graphs)
    return {name: measured(name, value, 1) for name, value in zip(NAMES, values, strict=True)}
