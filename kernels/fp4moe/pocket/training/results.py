"""Puts the final evaluation into training_log.json, under `evaluation`.

    python -m fp4moe.pocket.training.results --work WORK --data DATA

Bits per byte of the shipped BF16 file by transformers (window 512) and by our
model (512, 1024, 2048), by work, the router's use of the experts on the held-out
text, and how much of that text the training text shares.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from .batches import eval_windows, with_bos
from .evaluate import load_model, report, total_bits, xz_bits_per_byte
from .log import usage_statistics, write_log
from .model import PocketMixtral

WINDOW = 512


def tokens_of(data: Path, text: str) -> np.ndarray:
    """Token ids without specials."""
    return np.asarray(Tokenizer.from_file(str(data / "tokenizer.json")).encode(text, add_special_tokens=False).ids)


def by_work(data: Path, model: PocketMixtral) -> list[dict]:
    """Bits per byte of each held-out work, each alone, beside `xz -9` on the same bytes."""
    blob = (data / "heldout.txt").read_bytes()
    rows = []
    for work in json.loads((data / "heldout.json").read_text())["works"]:
        text = blob[work["start_byte"] : work["end_byte"]]
        ids = tokens_of(data, text.decode())
        bits = total_bits(lambda x: model(x)[0], ids, WINDOW, torch.device("cpu"))
        rows.append(
            {
                "work": work["work"],
                "num_bytes": len(text),
                "num_tokens": len(ids),
                "bits_per_byte": round(bits / len(text), 4),
                "xz9_bits_per_byte": round(xz_bits_per_byte(text), 4),
            }
        )
    return rows


@torch.no_grad()
def heldout_usage(data: Path, model: PocketMixtral) -> dict:
    """Share of routed slots per layer and expert over the whole held-out text."""
    windows = eval_windows(tokens_of(data, (data / "heldout.txt").read_text("utf-8")), WINDOW).clamp(min=0)
    counts = torch.zeros(model.shape.num_hidden_layers, model.shape.num_local_experts)
    for targets in windows.split(16):
        counts += torch.stack([(gates > 0).sum(0) for gates in model(with_bos(targets))[2]])
    return usage_statistics((counts / counts.sum(-1, keepdim=True)).tolist())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    model = load_model(args.data)
    heldout = report(args.data, WINDOW, "transformers")
    evaluation = {
        "heldout": heldout,
        "heldout_own_model": [report(args.data, window, "own") for window in (WINDOW, 2 * WINDOW, 4 * WINDOW)],
        "heldout_works": by_work(args.data, model),
        "heldout_router": heldout_usage(args.data, model),
        "contamination": json.loads((args.work / "contamination.json").read_text()),
    }
    path = args.data / "training_log.json"
    log = json.loads(path.read_text())
    write_log(path, {**log, "evaluation": evaluation})


if __name__ == "__main__":
    main()
