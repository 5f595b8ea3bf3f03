"""Compare runs: the same cells on other machines, commits, precisions or backends, with uncertainty and a verdict.

    run folders -> pairing (identity) -> values -> judge (harness.stats) -> Comparison -> terminal, Markdown, HTML, JSON

`compare_runs` reads and judges; `write_comparison` writes compare.html, compare.md, compare.json and plots. It lists unlike
machines and never refuses them: that is `harness.gate`'s. Importing this package imports no pandas, matplotlib or torch.
"""

from harness.compare.build import Comparison, PairResult, compare_loaded, compare_runs
from harness.compare.rules import Primary, Rules, make_rules

__all__ = ["Comparison", "PairResult", "Primary", "Rules", "compare_loaded", "compare_runs", "make_rules"]
