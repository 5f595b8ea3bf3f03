"""Draws loss_curve.png and router_usage.png from training_log.json.

    python -m fp4moe.pocket.training.plots --data DATA --out DOCS

Needs matplotlib; nothing else of the project does.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

_GROUP_COLOURS = {"all": "#1b1b1b", "literature": "#3b6fb6", "speeches": "#c8553d"}
_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "savefig.dpi": 130,
    "savefig.bbox": "tight",
}


def million_tokens(log: dict, records: list[dict]) -> list[float]:
    """Tokens trained at each record, in millions."""
    return [record["step"] * log["run"]["tokens_per_step"] / 1e6 for record in records]


def draw_training_loss(axis, log: dict) -> None:
    """Mean loss since the last record; the first steps are above the axis."""
    records = log["records"]
    axis.plot(million_tokens(log, records), [r["loss_nats_per_token"] for r in records], color="#1b1b1b", lw=1.4)
    axis.set(title="Training loss (with dropout)", xlabel="tokens trained (millions)", ylabel="nats per token", ylim=(2.5, 4.6))


def draw_bits_per_byte(axis, log: dict) -> None:
    """Validation over training, the held-out result at its end, and xz on the held-out text."""
    scored = [r for r in log["records"] if "validation_bits_per_byte" in r]
    tokens = million_tokens(log, scored)
    for group, colour in _GROUP_COLOURS.items():
        values = [r["validation_bits_per_byte"][group] for r in scored]
        label = f"validation, {group}: {values[-1]:.2f}"
        axis.plot(tokens, values, color=colour, lw=1.6, marker="o", ms=2.5, label=label)
    heldout = log["evaluation"]["heldout"]
    xz, bits = heldout["xz9_bits_per_byte"], heldout["bits_per_byte"]
    axis.axhline(xz, color="#888888", ls="--", lw=1.2, label=f"xz -9 on the held-out text: {xz:.2f}")
    label = f"held-out text, shipped BF16 file: {bits:.2f}"
    axis.plot(tokens[-1], bits, "*", ms=13, color="#2a9d5c", label=label)
    axis.set(title="Bits per byte, windows of 512 tokens", xlabel="tokens trained (millions)")
    axis.set(ylabel="bits per byte", ylim=(1.1, 2.6))
    axis.legend(fontsize=9, loc="center right", bbox_to_anchor=(1.0, 0.68))


def draw_loss(log: dict, path: Path) -> None:
    """Left: training loss. Right: bits per byte."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    draw_training_loss(left, log)
    draw_bits_per_byte(right, log)
    figure.savefig(path)
    plt.close(figure)


def draw_shares(axes, log: dict) -> None:
    """One panel a layer: each expert's share of the routed slots over training."""
    records, colours = log["records"], plt.get_cmap("tab10").colors
    for layer, axis in enumerate(axes):
        for expert in range(log["run"]["shape"]["num_local_experts"]):
            shares = [100 * r["expert_share"][layer][expert] for r in records]
            axis.plot(million_tokens(log, records), shares, lw=1.2, color=colours[expert], label=f"expert {expert}")
        axis.axhline(100 / 8, color="#888888", ls=":", lw=1.2)
        axis.set(title=f"layer {layer}", xlabel="tokens (millions)", ylim=(0, 28))
    axes[0].set_ylabel("share of routed slots (%)")
    axes[-1].legend(fontsize=7.5, ncols=2, loc="upper right", columnspacing=1, handlelength=1)


def draw_statistics(axes, log: dict) -> None:
    """Balance over training, per layer, then the load-balance loss."""
    records = log["records"]
    tokens = million_tokens(log, records)
    for axis, key, title in (
        (axes[0], "max_over_mean", "busiest expert / mean"),
        (axes[1], "entropy_bits", "entropy of the shares (bits, uniform = 3)"),
    ):
        for layer in range(log["run"]["shape"]["num_hidden_layers"]):
            axis.plot(
                tokens,
                [r[key][layer] for r in records],
                lw=1.3,
                label=f"layer {layer}",
                color=plt.get_cmap("viridis")(layer / 5),
            )
        axis.set(title=title, xlabel="tokens (millions)")
    axes[0].set_ylim(1, 2)
    axes[1].set_ylim(2.85, 3.005)
    axes[1].legend(fontsize=8, ncols=3, loc="lower right")
    axes[2].plot(tokens, [r["load_balance_loss"] for r in records], color="#1b1b1b", lw=1.4)
    axes[2].set(title="load-balance loss (1 = perfect balance)", xlabel="tokens (millions)", ylim=(1, 1.08))


def draw_heldout(axis, log: dict) -> None:
    """Shares on the held-out text, layers by experts, written into the cells."""
    shares = log["evaluation"]["heldout_router"]["expert_share"]
    axis.imshow(shares, cmap="Blues", vmin=0.04, vmax=0.25, aspect="auto")
    axis.grid(visible=False)
    for layer, row in enumerate(shares):
        for expert, share in enumerate(row):
            axis.text(
                expert,
                layer,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if share > 0.17 else "#1b1b1b",
            )
    axis.set(
        title="held-out text: share by layer, expert (%)",
        xlabel="expert",
        ylabel="layer",
        xticks=range(len(shares[0])),
        yticks=range(len(shares)),
    )


def draw_router(log: dict, path: Path) -> None:
    """Two rows: shares a layer; statistics and the held-out picture."""
    figure = plt.figure(figsize=(15, 7), constrained_layout=True)
    top, bottom = figure.subfigures(2, 1)
    draw_shares(top.subplots(1, log["run"]["shape"]["num_hidden_layers"], sharey=True), log)
    axes = bottom.subplots(1, 4)
    draw_statistics(axes, log)
    draw_heldout(axes[3], log)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    log = json.loads((args.data / "training_log.json").read_text())
    with plt.rc_context(_STYLE):
        draw_loss(log, args.out / "loss_curve.png")
        draw_router(log, args.out / "router_usage.png")


if __name__ == "__main__":
    main()
