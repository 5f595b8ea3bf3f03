"""A checkpoint folder of seeded random weights, written fast: for loading, meaningless for quality.

In: a config, a name of checkpoint.STORAGES, a device that draws the weights. Out: config.json, the announcement of the layout
and safetensors files as export.py names and lays them out. Codes are drawn in their format (quantize/random_codes.py), nothing
is quantized; files are written by several threads and are on the disk when the function returns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from fp4moe.checkpoint import STORAGES, split_rows
from fp4moe.checkpoint.expected import Sizes, expert_module
from fp4moe.checkpoint.quantization_config import announce
from fp4moe.checkpoint.shards import INDEX
from fp4moe.checkpoint.storages import UNQUANTIZED, Storage
from fp4moe.checkpoint.stream import DTYPES
from fp4moe.quantize.random_codes import random_quantized
from fp4moe.runtime.config import MixtralConfig

_WRITERS = 4
_STANDARD_DEVIATION = 0.02
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_folder(
    folder: Path, config: MixtralConfig, layout: str, *, device: torch.device, shard_bytes: int, seed: int = 0
) -> list[Path]:
    """Write to the empty `folder`; its weight files, each of at most `shard_bytes` or one tensor."""
    storage, raw = STORAGES[layout], config_json(config)
    sizes = Sizes.from_config(raw, "config")
    if storage is not UNQUANTIZED:
        raw["quantization_config"], _ = announce(storage, sizes, has_input_scales=False)
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    pending: dict[str, Tensor] = {}
    files, jobs, weight_map = [], [], {}
    with ThreadPoolExecutor(_WRITERS) as threads:

        def flush() -> None:
            files.append(folder / f"model-{len(files) + 1:05d}.safetensors")
            weight_map.update(dict.fromkeys(pending, files[-1].name))
            jobs.append(threads.submit(_write, files[-1], dict(pending)))
            pending.clear()

        for name, tensor in _tensors(sizes, storage, device, seed):
            if pending and sum(one.nbytes for one in pending.values()) + tensor.nbytes > shard_bytes:
                flush()
            pending[name] = tensor
        flush()
        for job in jobs:
            job.result()
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return files


def config_json(config: MixtralConfig) -> dict:
    """What config.json says of `config`."""
    return {
        "model_type": "mixtral", "vocab_size": config.vocab_size, "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size, "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads, "num_key_value_heads": config.num_kv_heads, "head_dim": config.head_dim,
        "num_local_experts": config.num_experts, "num_experts_per_tok": config.top_k,
        "tie_word_embeddings": config.tie_word_embeddings, "max_position_embeddings": config.max_positions,
    }  # fmt: skip


def _tensors(sizes: Sizes, storage: Storage, device: torch.device, seed: int) -> Iterator[tuple[str, Tensor]]:
    generator = torch.Generator(device).manual_seed(seed)
    for name, shape in sizes.plain_shapes().items():
        tensor = torch.empty(shape, dtype=torch.bfloat16, device=device)
        tensor = tensor.fill_(1) if len(shape) == 1 else tensor.normal_(0.0, _STANDARD_DEVIATION, generator=generator)
        yield name, tensor.cpu()
    (inner, hidden), format = sizes.expert_shape("w1"), storage.weight_format
    for layer in range(sizes.num_layers):
        shapes = (sizes.num_experts, 2 * inner, hidden), (sizes.num_experts, hidden, inner)
        seeds = (seed + 2 * layer, seed + 2 * layer + 1)
        gate_up, down = (
            random_quantized(format, shape, seed=one, device=device).to("cpu") for shape, one in zip(shapes, seeds, strict=True)
        )
        for expert in range(sizes.num_experts):
            gate, up = split_rows(gate_up[expert], inner)
            for matrix, q in (("w1", gate), ("w2", down[expert]), ("w3", up)):
                for suffix, tensor in storage.store(q).items():
                    yield f"{expert_module(layer, expert, matrix)}.{suffix}", tensor


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    """One safetensors file, wide dtypes first as the library orders them, so that each lies on a multiple of its size."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb", buffering=0) as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            _write_all(opened, tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        os.fsync(opened.fileno())


def _write_all(opened, view: memoryview) -> None:
    while view.nbytes:
        view = view[opened.write(view) :]
