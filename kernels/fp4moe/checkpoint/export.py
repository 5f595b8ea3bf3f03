"""A checkpoint with quantized experts that other engines load.

In: a Hugging Face Mixtral folder (BF16, or already in the target's number format) and a layout of
storages.py. Out: a folder with the experts in that layout, all else unchanged, and the JSON that announces
it. Gate and up of an expert are quantized together and share their tensor scale, as engines fuse them.

A source quantized in the same format is only laid out anew, with its codes, scales and input scales. Its bits
stay; but a tensor scale that this package did not choose (see nvfp4.tensor_scale_of) may move by one unit in
the last place where a layout stores the reciprocal. A source in another format is refused: requantizing loses
twice.

All is written to a temporary folder beside the target and renamed at the end: after an error nothing is left.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fp4moe.checkpoint.expected import DOWN, EXPERT_MATRICES, GATE, UP, expert_module
from fp4moe.checkpoint.quantization_config import HF_QUANT_CONFIG, announce
from fp4moe.checkpoint.reader import METHOD_KEY, Checkpoint, open_checkpoint
from fp4moe.checkpoint.shards import INDEX
from fp4moe.checkpoint.stack import split_rows
from fp4moe.checkpoint.storages import STORAGES, UNQUANTIZED, Storage
from fp4moe.checkpoint.writer import ShardWriter
from fp4moe.errors import CheckpointError
from fp4moe.formats import E2M1_MAX, E4M3_MAX, weight_format
from fp4moe.layouts import QuantizedTensor
from fp4moe.quantize import quantize_weight

LAYOUTS = tuple(name for name in STORAGES if name != UNQUANTIZED.name)
_COPIED_SUFFIXES = (".json", ".txt", ".model", ".jinja")
_NOT_COPIED = ("config.json", HF_QUANT_CONFIG, INDEX)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Job:
    """What is written how; `input_scales` by expert module, None for weight-only."""

    checkpoint: Checkpoint
    storage: Storage
    method: str
    input_scales: Mapping[str, float] | None


def export(
    source: Path | str,
    out: Path | str,
    layout: str,
    method: str | None = None,
    *,
    input_amax: Mapping[str, float] | None = None,
    max_shard_bytes: int = 5 * 10**9,
    progress: Progress | None = None,
) -> Path:
    """Write `source` to the new folder `out` in `layout` (a name of LAYOUTS); returns `out`.

    `method` is the quantizer (None: the format's default). `input_amax` gives the largest activation
    magnitude met by each expert module ("model.layers.0.block_sparse_moe.experts.0.w1"); with it NVFP4 is
    written as W4A4, without as W4A16. `progress(done_layers, total_layers)`. Raises CheckpointError and
    FormatError before `out` exists.
    """
    out = Path(out)
    storage = _checked_layout(layout)
    checkpoint = open_checkpoint(source)
    method = _checked_method(checkpoint, storage, method)
    job = _Job(checkpoint, storage, method, _input_scales(checkpoint, storage, input_amax))
    _check_free(out)
    checkpoint.validate_headers()
    out.parent.mkdir(parents=True, exist_ok=True)
    # A temporary folder beside the target, so that the last step is one rename within a file system.
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        writer = ShardWriter(partial, max_shard_bytes, {METHOD_KEY: method})
        for name, tensor in _tensors(job, progress):
            writer.add(name, tensor)
        writer.close()
        _write_configs(job, partial)
        partial.chmod(0o755)
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out}: must not exist or be an empty folder; choose another or remove it")


def _checked_layout(layout: str) -> Storage:
    if layout not in LAYOUTS:
        raise CheckpointError(f"export: layout must be one of {', '.join(LAYOUTS)} (got {layout!r})")
    return STORAGES[layout]


def _checked_method(checkpoint: Checkpoint, storage: Storage, method: str | None) -> str:
    fmt = weight_format(storage.weight_format)
    if checkpoint.storage == UNQUANTIZED.name:
        if method is not None and method not in fmt.methods:
            raise CheckpointError(f"export: method of {fmt.name} must be one of {', '.join(fmt.methods)} (got {method!r})")
        return method or fmt.default_method
    stored = STORAGES[checkpoint.storage].weight_format
    if stored != fmt.name:
        raise CheckpointError(f"{checkpoint.path}: is stored as {stored}, would lose again as {fmt.name}; start from BF16")
    if method is not None:
        raise CheckpointError(f"{checkpoint.path}: is quantized already, method must be left out (got {method!r})")
    return checkpoint.expert(0, 0, GATE).method


def _input_scales(checkpoint: Checkpoint, storage: Storage, input_amax: Mapping[str, float] | None) -> dict[str, float] | None:
    """Activation scale of every expert module: from calibration, else those of the source, else None."""
    if input_amax is not None and storage.input_scale is None:
        raise CheckpointError(f"export: {storage.name} has no input scales; leave input_amax out")
    scales = {}
    for layer, expert in checkpoint.sizes.experts():
        for matrix in EXPERT_MATRICES:
            module = expert_module(layer, expert, matrix)
            if input_amax is None:
                scales[module] = checkpoint.input_scale(layer, expert, matrix)
            else:
                scales[module] = _shared_amax(input_amax, module) / (E2M1_MAX * E4M3_MAX)
    return None if storage.input_scale is None or None in scales.values() else scales


def _shared_amax(input_amax: Mapping[str, float], module: str) -> float:
    """Gate and up see the same input, so the same scale."""
    prefix, matrix = module.rsplit(".", 1)
    modules = [module] if matrix == DOWN else [f"{prefix}.{GATE}", f"{prefix}.{UP}"]
    for name in modules:
        if not 0 < input_amax.get(name, 0.0) < float("inf"):
            raise CheckpointError(
                f"export: input_amax[{name!r}] must be positive (got {input_amax.get(name)}); calibrate every expert"
            )
    return max(input_amax[name] for name in modules)


def _tensors(job: _Job, progress: Progress | None) -> Iterator[tuple[str, Tensor]]:
    """Everything to write. Plain tensors go first, layers follow."""
    sizes = job.checkpoint.sizes
    for name in sizes.plain_shapes():
        yield name, job.checkpoint.tensor(name)
    for layer in range(sizes.num_layers):
        for expert in range(sizes.num_experts):
            for matrix, q in _expert(job, layer, expert).items():
                module = expert_module(layer, expert, matrix)
                tensors = job.storage.store(q)
                if job.input_scales is not None:
                    tensors |= job.storage.store_input_scale(job.input_scales[module])
                for suffix, tensor in tensors.items():
                    yield f"{module}.{suffix}", tensor
        if progress is not None:
            progress(layer + 1, sizes.num_layers)


def _expert(job: _Job, layer: int, expert: int) -> dict[str, QuantizedTensor]:
    """The three matrices of one expert, quantized or taken as stored."""
    checkpoint, format = job.checkpoint, job.storage.weight_format
    modules = {matrix: expert_module(layer, expert, matrix) for matrix in EXPERT_MATRICES}
    if checkpoint.storage != UNQUANTIZED.name:
        stored = {matrix: checkpoint.expert(layer, expert, matrix) for matrix in EXPERT_MATRICES}
        for matrix, q in stored.items():
            if q.format != format:
                raise CheckpointError(
                    f"{checkpoint.path}: {modules[matrix]}: is {q.format} in a checkpoint of {format}, "
                    "which no layout can say; start from BF16"
                )
        return stored
    w1, w2, w3 = (checkpoint.raw_expert(layer, expert, matrix) for matrix in EXPERT_MATRICES)
    places = {matrix: checkpoint.place(f"{module}.weight") for matrix, module in modules.items()}
    fused = quantize_weight(torch.cat([w1, w3]), format, job.method, name=f"{places[GATE]} and {UP}")
    gate, up = split_rows(fused, len(w1))
    return {GATE: gate, DOWN: quantize_weight(w2, format, job.method, name=places[DOWN]), UP: up}


def _write_configs(job: _Job, folder: Path) -> None:
    checkpoint = job.checkpoint
    announced, modelopt = announce(job.storage, checkpoint.sizes, job.input_scales is not None)
    for file in sorted(checkpoint.path.iterdir()):
        if file.is_file() and file.suffix in _COPIED_SUFFIXES and file.name not in _NOT_COPIED:
            shutil.copyfile(file, folder / file.name)
    _write_json(folder / "config.json", checkpoint.config | {"quantization_config": announced})
    if modelopt is not None:
        _write_json(folder / HF_QUANT_CONFIG, modelopt)


def _write_json(file: Path, value: dict) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
