"""Loading a checkpoint folder: beside the disk's own speed, in little host memory, to the same weights.

In: a device, sizes, a folder with room. Out: lines, two a layout for cold and warm files, one for the weights. A checkpoint of
the model's shape with few layers is written, dropped from the page cache, read plainly by as many threads in as large blocks,
dropped again and loaded. An ordinary load maps the files and reads a tensor when it is asked for. Speeds in GB/s are of the
stored bytes; memory is what the process grew by, and the pinned blocks again, which not every system counts as its own.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fp4moe.checkpoint import open_checkpoint
from fp4moe.checkpoint.stream import BLOCK_BYTES, num_readers
from fp4moe.precision import Precision
from fp4moe.runtime.config import MIXTRAL_8X7B, MixtralConfig
from fp4moe.runtime.digest import PIECE_BYTES, num_hashers
from fp4moe.runtime.gpu.checks.host import drop_from_cache, file_system, plain_read_seconds, with_peak_bytes
from fp4moe.runtime.gpu.checks.random_folder import write_folder
from fp4moe.runtime.load import load_model

LEAST_SHARE = 0.7  # of the plain read's speed
MOST_SHARDS = 2  # of host memory
LAYERS = 7  # 6.6 GB of Mixtral-8x7B in NVFP4


@dataclass(frozen=True, slots=True)
class Case:
    """A stored layout, what it is loaded as, its share of the layers that are asked for, and the size of its files."""

    layout: str
    precision: Precision
    layers: float
    shard_bytes: int

    def sized(self, config: MixtralConfig, num_layers: int) -> MixtralConfig:
        """The model with this case's layers."""
        return replace(config, num_layers=max(1, round(num_layers * self.layers)))


CASES = (
    Case("modelopt-nvfp4", Precision("nvfp4"), 1, 2 * 10**9),
    Case("ct-nvfp4", Precision("nvfp4"), 2 / 7, 6 * 10**8),
    Case("ct-mxfp4", Precision("mxfp4"), 2 / 7, 6 * 10**8),
    Case("ct-fp8", Precision("fp8", activations="fp8"), 1 / 7, 6 * 10**8),
    Case("bf16", Precision("nvfp4"), 1 / 7, 10**9),
)
_WARM_UP = {"vocab_size": 256, "hidden_size": 256, "intermediate_size": 256, "num_heads": 4, "num_kv_heads": 2, "head_dim": 64}


def check_loading(
    device: torch.device,
    folder: Path | None = None,
    *,
    num_layers: int = LAYERS,
    config: MixtralConfig = MIXTRAL_8X7B,
    cases: Sequence[Case] = CASES,
) -> Iterator[dict]:
    """Every case in turn, in a temporary folder within `folder` (None: the system's), which is removed after each."""
    for case in cases:
        _load_small(case, config, device, folder)
        with tempfile.TemporaryDirectory(prefix="fp4moe-load-", dir=folder) as temporary:
            yield from check_case(case, case.sized(config, num_layers), device, Path(temporary))
        _forget(device)


def check_case(case: Case, config: MixtralConfig, device: torch.device, folder: Path) -> Iterator[dict]:
    """Lines of one case; `folder` is empty and on the disk that is measured."""
    start = time.perf_counter()
    files = write_folder(folder, config, case.layout, device=device, shard_bytes=case.shard_bytes)
    about = {"layout": case.layout, "precision": case.precision.id, "layers": config.num_layers, "files": len(files)}
    about |= {"bytes": sum(file.stat().st_size for file in files), "largest_file_bytes": max(f.stat().st_size for f in files)}
    about["file_system"] = file_system(folder)
    about["write_seconds"] = time.perf_counter() - start
    found = {}
    for state, prepare in (("cold", drop_from_cache), ("warm", plain_read_seconds)):
        prepare(files)
        plain_seconds = plain_read_seconds(files)
        prepare(files)
        line, found[state] = _timed(lambda: load_model(folder, case.precision, device=str(device)), about["bytes"], device)
        line |= _judged(line, about, plain_seconds, is_cold=state == "cold", is_cpu=device.type == "cpu")
        yield {"check": "load", "files_are": state} | about | line
    mapped = open_checkpoint(folder)
    ordinary, sha256 = _timed(lambda: load_model(mapped, case.precision, device=str(device)), about["bytes"], device)
    yield {
        "check": "same weights as an ordinary load", "layout": case.layout, "ordinary_and_warm": ordinary, "sha256": sha256,
        "passed": all(one == sha256 for one in found.values()),
    }  # fmt: skip


def _timed(load: Callable, num_bytes: int, device: torch.device) -> tuple[dict, str]:
    """(how long and in how much memory, the weights' hash); the model is given up."""
    _forget(device)
    start = time.perf_counter()

    def run():
        model = load()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return model

    model, grown_bytes = with_peak_bytes(run)
    seconds = time.perf_counter() - start
    line = {"seconds": seconds, "gb_per_s": num_bytes / seconds / 1e9, "host_growth_bytes": grown_bytes}
    return line | {"model_bytes": sum(model.memory_bytes().values())}, model.weights_sha256


def _judged(line: dict, about: dict, plain_seconds: float, *, is_cold: bool, is_cpu: bool) -> dict:
    """Speed counts where files come from the disk; on a CPU the model itself is host memory too."""
    pinned_bytes = 0 if is_cpu else num_readers() * BLOCK_BYTES + num_hashers() * PIECE_BYTES
    limit_bytes = MOST_SHARDS * about["largest_file_bytes"] + (line["model_bytes"] if is_cpu else 0)
    share = plain_seconds / line["seconds"]
    return {
        "plain_seconds": plain_seconds, "plain_gb_per_s": about["bytes"] / plain_seconds / 1e9,
        "readers": num_readers(), "share": share, "least_share": LEAST_SHARE if is_cold else None,
        "pinned_bytes": pinned_bytes, "limit_bytes": limit_bytes,
        "passed": line["host_growth_bytes"] + pinned_bytes < limit_bytes and (share >= LEAST_SHARE or not is_cold),
    }  # fmt: skip


def _load_small(case: Case, config: MixtralConfig, device: torch.device, folder: Path | None) -> None:
    """So that no kernel is loaded, and no library initialized, within a measured load."""
    small = replace(config, num_layers=1, num_experts=2, top_k=1, **_WARM_UP)
    with tempfile.TemporaryDirectory(prefix="fp4moe-load-", dir=folder) as temporary:
        write_folder(Path(temporary), small, case.layout, device=device, shard_bytes=case.shard_bytes)
        load_model(Path(temporary), case.precision, device=str(device))


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
