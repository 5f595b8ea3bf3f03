"""Trains pocket-mixtral on one device and writes the checkpoint and the log.

    python -m fp4moe.pocket.training.train --work WORK --out OUT --budget-s 300

In: WORK/tokens of tokenizer.py. Out: OUT/model.safetensors, config.json,
generation_config.json and training_log.json. The number of steps follows from the
time budget and the measured steps per second; give --steps to fix it.
"""

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .batches import TrainStream, load_split, load_train_stream, sample_windows, with_bos
from .evaluate import total_bits
from .export import export, load_state_dict_hf, state_dict_hf
from .log import TrainingLog
from .model import PocketMixtral, Shape, load_balance

NUM_RECORDS = 200  # of the log
EVAL_WINDOW = 512
MEASURED_STEPS = 30


def parse_args() -> argparse.Namespace:
    """Command line; the defaults are the shipped run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget-s", type=float, default=300)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--windows", type=int, default=64, help="windows a step (halved for long windows)")
    parser.add_argument("--window", type=int, default=1024, help="tokens a window")
    parser.add_argument("--long-share", type=float, default=0.15, help="share of steps with windows twice as long")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--aux", type=float, default=0.01, help="coefficient of the load-balance loss")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--intermediate", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


class Trainer:
    """One run: model, optimizer, data and log."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(args.seed)
        self.shape = Shape(num_hidden_layers=args.layers, intermediate_size=args.intermediate)
        self.model = PocketMixtral(self.shape, args.dropout).to(self.device)
        self.optimizer = self.new_optimizer()
        self.stream: TrainStream = load_train_stream(args.work / "tokens", self.device)
        self.validation = load_split(args.work / "tokens", "validation")
        self.generator = torch.Generator(self.device).manual_seed(args.seed)
        self.step_loss = self.loss if args.no_compile else torch.compile(self.loss, dynamic=False)

    def new_optimizer(self) -> torch.optim.AdamW:
        """AdamW; norms are not decayed."""
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        groups = [
            {"params": matrices, "weight_decay": self.args.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.args.learning_rate, betas=(0.9, 0.95), fused=self.device.type == "cuda")

    def loss(self, targets_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy in nats a token, load-balance loss, expert fractions [layers, E]."""
        with torch.autocast(self.device.type, torch.bfloat16):
            logits, probs, gates = self.model(with_bos(targets_BT))
        nats = F.cross_entropy(logits.float().flatten(0, 1), targets_BT.flatten())
        return nats, *load_balance(probs, gates)

    def step(self, window: int) -> tuple[Tensor, Tensor, Tensor]:
        """One optimizer step."""
        num_windows = self.args.windows * self.args.window // window
        targets_BT = sample_windows(self.stream, num_windows, window, self.generator)
        nats, balance, fractions = self.step_loss(targets_BT)
        (nats + self.args.aux * balance).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return nats.detach(), balance.detach(), fractions.detach()

    def measure(self) -> float:
        """Seconds a step (compilation left out), weighted over both window lengths; undoes its steps."""
        initial = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        seconds = {}
        for window in (self.args.window, 2 * self.args.window):
            for _ in range(3):
                self.step(window)
            synchronize(self.device)
            start = time.perf_counter()
            for _ in range(MEASURED_STEPS):
                self.step(window)
            synchronize(self.device)
            seconds[window] = (time.perf_counter() - start) / MEASURED_STEPS
        print("seconds a step:", seconds, flush=True)
        self.model.load_state_dict(initial)
        self.optimizer = self.new_optimizer()
        self.generator.manual_seed(self.args.seed)
        short, long = seconds.values()
        return (1 - self.args.long_share) * short + self.args.long_share * long

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Validation bits per byte: each group, and all bytes together."""
        self.model.eval()
        bits, sizes, out = 0.0, 0, {}
        for name, (ids, num_bytes) in self.validation.items():
            with torch.autocast(self.device.type, torch.bfloat16):
                group_bits = total_bits(lambda x: self.model(x)[0], ids, EVAL_WINDOW, self.device, batch=64)
            out[name.partition(".")[2]] = round(group_bits / num_bytes, 4)
            bits, sizes = bits + group_bits, sizes + num_bytes
        self.model.train()
        return {"all": round(bits / sizes, 4), **out}

    def set_learning_rate(self, step: int, num_steps: int) -> float:
        """Linear warm-up over 2%, then cosine to 1% of the peak."""
        warm = max(1, num_steps // 50)
        progress = max(0.0, (step - warm) / max(1, num_steps - warm))
        factor = min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.learning_rate * factor
        return group["lr"]

    def window_of(self, step: int) -> int:
        """Window length of a step: of every 20 steps, the first `long_share` are twice as long."""
        return 2 * self.args.window if step % 20 < 20 * self.args.long_share else self.args.window

    def run(self) -> None:
        """The whole training."""
        seconds_per_step = self.measure()
        num_steps = self.args.steps or int(self.args.budget_s / seconds_per_step)
        every = max(1, num_steps // NUM_RECORDS)
        log = TrainingLog(self.args, self.shape, num_steps, self.device)
        print("steps:", num_steps, flush=True)
        for step in range(num_steps):
            rate = self.set_learning_rate(step, num_steps)
            log.add(*self.step(self.window_of(step)))
            if (step + 1) % every == 0 or step + 1 == num_steps:
                due = (step + 1) // every % 5 == 0 or step + 1 == num_steps
                log.record(step + 1, rate, self.validate() if due else None)
        self.finish(log)

    def finish(self, log: TrainingLog) -> None:
        """Exports, then reads the held-out text once, with the BF16-rounded weights."""
        export(self.model, self.args.out, self.args.aux)
        rounded = {name: t.bfloat16().float() for name, t in state_dict_hf(self.model).items()}
        load_state_dict_hf(self.model, rounded)
        self.model.eval()
        for name, (ids, num_bytes) in load_split(self.args.work / "tokens", "heldout").items():
            bits = total_bits(lambda x: self.model(x)[0], ids, EVAL_WINDOW, self.device)
            print(name, bits / num_bytes, "bits per byte", flush=True)
        log.write(self.args.out / "training_log.json")


def synchronize(device: torch.device) -> None:
    """Waits for the device's queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Command line."""
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    Trainer(args).run()


if __name__ == "__main__":
    main()
