"""The README's perplexity table, made from the committed record: `python tests/readme_table.py` prints it."""

from pathlib import Path

from harness import load_run

BASELINE = Path("results/baselines/quality-pocket-mixtral")
BITS = {"bf16": "16", "fp8": "8", "nvfp4": "4.5", "mxfp4": "4.25", "int4": "4.5", "ternary": "2.25"}
HEAD = "| weights x activations (method) | bits a weight | perplexity | change, % | KL to BF16, nats | same top token, % |"


def rows() -> list[str]:
    """One Markdown line a record, in the order of the run."""
    return [_row(record) for record in load_run(BASELINE).records]


def _row(record: dict) -> str:
    precision, metrics = record["precision"], {name: metric["value"] for name, metric in record["metrics"].items()}
    cells = [precision["label"], BITS[precision["weights"]], f"{metrics['perplexity']:.3f}"]
    if metrics["perplexity_change_pct"] is None:
        return f"| {' | '.join([*cells, 'baseline', '', ''])} |"
    low, high = metrics["perplexity_change_low_pct"], metrics["perplexity_change_high_pct"]
    cells.append(f"{metrics['perplexity_change_pct']:+.2f} [{low:+.2f}, {high:+.2f}]")
    cells += [f"{metrics['mean_kl_nats']:.4f}", f"{metrics['top1_agreement_pct']:.1f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print("\n".join([HEAD, "|---|---|---|---|---|---|", *rows()]))
