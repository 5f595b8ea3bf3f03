"""Safetensors files of bounded size, written as tensors arrive.

In: a folder and named tensors. Out: model.safetensors, or model-00001-of-0000N.safetensors and an index, as
Hugging Face names them. Holds at most one shard in memory. Meant for a temporary folder that its owner
renames when all is written.
"""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from fp4moe.checkpoint.shards import INDEX, SINGLE


class ShardWriter:
    """Collects tensors and writes a shard whenever the next one would pass `max_shard_bytes`."""

    def __init__(self, folder: Path, max_shard_bytes: int, metadata: dict[str, str]) -> None:
        self._folder = folder
        self._max_shard_bytes = max_shard_bytes
        self._metadata = {"format": "pt", **metadata}
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[tuple[Path, list[str]]] = []
        self._total_bytes = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Queue one tensor."""
        if self._pending and self._pending_bytes + tensor.nbytes > self._max_shard_bytes:
            self._flush()
        self._pending[name] = tensor.contiguous()
        self._pending_bytes += tensor.nbytes
        self._total_bytes += tensor.nbytes

    def close(self) -> None:
        """Write what is pending, give the shards their final names, write the index if there are several."""
        self._flush()
        if len(self._shards) == 1:
            self._shards[0][0].rename(self._folder / SINGLE)
            return
        weight_map = {}
        for number, (file, names) in enumerate(self._shards, start=1):
            final = f"model-{number:05d}-of-{len(self._shards):05d}.safetensors"
            file.rename(self._folder / final)
            weight_map |= dict.fromkeys(names, final)
        index = {
            "metadata": {"total_size": self._total_bytes},
            "weight_map": dict(sorted(weight_map.items())),
        }
        (self._folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def _flush(self) -> None:
        file = self._folder / f"shard-{len(self._shards)}.partial"
        save_file(self._pending, file, metadata=self._metadata)
        self._shards.append((file, list(self._pending)))
        self._pending, self._pending_bytes = {}, 0
