"""The training log: means since the last record, kept on the device until written.

Out: training_log.json with `run` (what was run, on what), `summary` and `records`
(step, loss in nats a token, load-balance loss, and per layer the share of routed
slots each expert got, its max/mean and its entropy in bits).
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from .model import Shape


def usage_statistics(fractions: list[list[float]]) -> dict[str, list]:
    """Per layer: rounded shares, max over mean, entropy in bits (3.0 is uniform over 8)."""
    shares = torch.tensor(fractions, dtype=torch.float64)
    entropy = -(shares * shares.clamp(min=1e-12).log2()).sum(-1)
    return {
        "expert_share": [[round(x, 4) for x in row] for row in shares.tolist()],
        "max_over_mean": [round(x, 3) for x in (shares.amax(-1) * shares.shape[-1]).tolist()],
        "entropy_bits": [round(x, 4) for x in entropy.tolist()],
    }


def write_log(path: Path, log: dict) -> None:
    """JSON with one line a record; `records` comes last."""
    records = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in log["records"])
    head = json.dumps({key: value for key, value in log.items() if key != "records"}, indent=1)
    path.write_text(f'{head[:-2]},\n "records": [\n  {records}\n ]\n}}\n')


class TrainingLog:
    """Collects the figures of one run."""

    def __init__(self, args: argparse.Namespace, shape: Shape, num_steps: int, device: torch.device) -> None:
        options = {key: value for key, value in vars(args).items() if key not in ("work", "out")}
        self.run = {
            **options,
            "num_steps": num_steps,
            "tokens_per_step": args.windows * args.window,
            "torch": torch.__version__,
            "shape": asdict(shape),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        }
        self.records: list[dict] = []
        self.start = time.perf_counter()
        self.pending: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, nats: Tensor, balance: Tensor, fractions: Tensor) -> None:
        """Figures of one step; nothing is read back from the device yet."""
        self.pending.append((nats, balance, fractions))

    def record(self, step: int, learning_rate: float, validation: dict[str, float] | None) -> None:
        """Means over the steps since the last record."""
        nats, balance, fractions = (torch.stack(column).float().mean(0).tolist() for column in zip(*self.pending, strict=True))
        self.pending.clear()
        row = {
            "step": step,
            "elapsed_s": round(time.perf_counter() - self.start, 1),
            "learning_rate": round(learning_rate, 7),
            "loss_nats_per_token": round(nats, 4),
            "load_balance_loss": round(balance, 4),
            **usage_statistics(fractions),
        }
        if validation:
            row["validation_bits_per_byte"] = validation
            print(
                step,
                row["elapsed_s"],
                "s, loss",
                row["loss_nats_per_token"],
                "balance",
                row["load_balance_loss"],
                "validation",
                validation,
                "max/mean",
                row["max_over_mean"],
                flush=True,
            )
        self.records.append(row)

    def write(self, path: Path) -> None:
        """training_log.json, one record a line."""
        summary = {
            "train_seconds": self.records[-1]["elapsed_s"],
            "tokens_trained": self.run["num_steps"] * self.run["tokens_per_step"],
            "final_validation_bits_per_byte": self.records[-1]["validation_bits_per_byte"],
        }
        write_log(path, {"run": self.run, "summary": summary, "records": self.records})
