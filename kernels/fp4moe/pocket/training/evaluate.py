"""Bits per byte of a checkpoint on a text, beside what `xz -9` needs.

    python -m fp4moe.pocket.training.evaluate --data DATA [--window 512] [--backend transformers]

The text is tokenised as one stream, cut into non-overlapping windows, each
predicted from `<s>` and its own earlier tokens.
bits per byte = sum of -log2 p(token) / UTF-8 bytes of the text.
"""

import argparse
import json
import lzma
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from .batches import IGNORED, eval_windows, with_bos
from .export import load_state_dict_hf
from .model import PocketMixtral, Shape

Logits = Callable[[Tensor], Tensor]


@torch.no_grad()
def total_bits(logits_of: Logits, ids: np.ndarray, window: int, device: torch.device, batch: int = 16) -> float:
    """Sum of -log2 p over all tokens of `ids`."""
    nats = 0.0
    for targets in eval_windows(ids, window).split(batch):
        targets = targets.to(device)
        logits = logits_of(with_bos(targets.clamp(min=0))).float()
        nats += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum").item()
    return nats / math.log(2)


def xz_bits_per_byte(text: bytes) -> float:
    """What `xz -9` needs: 8 * packed bytes / bytes."""
    return 8 * len(lzma.compress(text, preset=9)) / len(text)


def load_model(data: Path) -> PocketMixtral:
    """A PocketMixtral with the weights of a checkpoint folder, float32."""
    config = json.loads((data / "config.json").read_text())
    shape = Shape(**{name: config[name] for name in Shape.__dataclass_fields__})
    model = PocketMixtral(shape).eval()
    load_state_dict_hf(model, {name: tensor.float() for name, tensor in load_file(data / "model.safetensors").items()})
    return model


def backend_logits(data: Path, backend: str) -> Logits:
    """Token ids to logits, by our model in float32 or by transformers in BF16."""
    if backend == "own":
        model = load_model(data)
        return lambda ids: model(ids)[0]
    from transformers import MixtralForCausalLM

    hf_model = MixtralForCausalLM.from_pretrained(data, dtype=torch.bfloat16).eval()
    return lambda ids: hf_model(ids).logits


def report(data: Path, window: int, backend: str) -> dict:
    """All figures of one evaluation of DATA/heldout.txt."""
    text = (data / "heldout.txt").read_bytes()
    tokenizer = Tokenizer.from_file(str(data / "tokenizer.json"))
    ids = np.asarray(tokenizer.encode(text.decode(), add_special_tokens=False).ids)
    bits = total_bits(backend_logits(data, backend), ids, window, torch.device("cpu"))
    return {
        "backend": backend,
        "window_tokens": window,
        "num_bytes": len(text),
        "num_tokens": len(ids),
        "bits_per_byte": round(bits / len(text), 4),
        "token_perplexity": round(2 ** (bits / len(ids)), 3),
        "xz9_bits_per_byte": round(xz_bits_per_byte(text), 4),
    }


def main() -> None:
    """Command line; prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--backend", choices=("own", "transformers"), default="own")
    args = parser.parse_args()
    print(json.dumps(report(args.data, args.window, args.backend)))


if __name__ == "__main__":
    main()
