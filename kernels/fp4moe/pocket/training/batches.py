"""Training windows and evaluation windows from token streams.

A window of T tokens is predicted from `<s>` and its first T - 1 tokens, so every
window, in training and evaluation alike, starts with `<s>` as context only.

B windows, T tokens each.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .sources import GROUP_SHARES
from .tokenizer import BOS_ID

IGNORED = -100  # target of a position that is not scored


@dataclass(frozen=True, slots=True)
class TrainStream:
    """All training tokens on the device; a group is tokens[start:start + size]."""

    tokens: Tensor
    starts: Tensor
    sizes: Tensor
    shares: Tensor


def load_train_stream(folder: Path, device: torch.device) -> TrainStream:
    """Reads train.<group>.npy; int32, because uint16 cannot index on every device."""
    parts = [np.load(folder / f"train.{group}.npy").astype(np.int32) for group in GROUP_SHARES]
    sizes = torch.tensor([len(part) for part in parts], device=device)
    tokens = torch.from_numpy(np.concatenate(parts)).to(device)
    shares = torch.tensor(list(GROUP_SHARES.values()), device=device)
    return TrainStream(tokens, sizes.cumsum(0) - sizes, sizes, shares)


def with_bos(targets_BT: Tensor) -> Tensor:
    """Inputs for the targets: `<s>`, then the targets shifted right."""
    bos = torch.full_like(targets_BT[:, :1], BOS_ID)
    return torch.cat([bos, targets_BT[:, :-1]], dim=1)


def sample_windows(stream: TrainStream, num_windows: int, length: int, generator: torch.Generator) -> Tensor:
    """Targets [B, T]: a group by its share, then a uniform position inside it."""
    group = torch.multinomial(stream.shares, num_windows, replacement=True, generator=generator)
    place = torch.rand(num_windows, device=stream.tokens.device, generator=generator)
    first = stream.starts[group] + (place * (stream.sizes[group] - length)).long()
    return stream.tokens[first[:, None] + torch.arange(length, device=first.device)].long()


def eval_windows(ids: np.ndarray, length: int) -> Tensor:
    """Targets [B, T] that cover `ids` once, without overlap; the last is filled with IGNORED."""
    num_windows = -(-len(ids) // length)
    padded = np.full(num_windows * length, IGNORED, dtype=np.int64)
    padded[: len(ids)] = ids
    return torch.from_numpy(padded.reshape(num_windows, length))


def load_split(folder: Path, split: str) -> dict[str, tuple[np.ndarray, int]]:
    """Per group of a split: its tokens and the bytes of text they stand for."""
    num_bytes = json.loads((folder / "bytes.json").read_text())
    return {name: (np.load(folder / f"{name}.npy"), size) for name, size in num_bytes.items() if name.startswith(split + ".")}
