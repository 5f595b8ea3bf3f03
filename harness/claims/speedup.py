"""How much faster a precision decodes than BF16 on the same GPU and engine: projected from layers measured in one run.

In: a term with `on` and optionally `with` and `batch`. Out: Known over the engines, or why it is not known. The ends pair the
slow end of one with the fast end of the other.
"""

from harness.claims.evidence import Known, Unknown, mixtral, weights_of
from harness.claims.grammar import Term
from harness.project.estimate import PROJECTED, UNVALIDATED
from harness.project.gpus import gpu_spec
from harness.project.kernels import candidates_on
from harness.project.projection import Ask, Projection, project

PROMPT, OUTPUT = 1024, 256


def speedup(term: Term) -> Known | Unknown:
    """Decode throughput over BF16's, the best kernel of each engine."""
    if "on" not in term.qualifiers:
        return Unknown("names no GPU; add `on GPU`")
    gpu, batch = gpu_spec(term.qualifiers["on"]), int(term.qualifiers.get("batch", 1))
    ask = Ask(int(term.qualifiers.get("prompt", PROMPT)), int(term.qualifiers.get("output", OUTPUT)), batch)
    rows = [project(gpu, mixtral(), row, ask) for row in candidates_on(gpu)]
    pairs = [
        (ours, base)
        for engine in dict.fromkeys(row.candidate.engine for row in rows)
        if (ours := _best(rows, engine, weights_of(term))) is not None and (base := _best(rows, engine, "bf16")) is not None
    ]
    if not pairs:
        reasons = dict.fromkeys(row.reason for row in rows if row.reason and row.candidate.weights == "bf16")
        return Unknown(f"nothing to set beside: BF16 on {gpu.name}: {'; '.join(reasons) or 'no kernel'}")
    spans = [_ratio(ours, base) for ours, base in pairs]
    parts = [
        f"{ours.candidate.engine}: {ours.candidate.kernel} {low:.2f} to {high:.2f}x"
        for (ours, _), (low, high) in zip(pairs, spans, strict=True)
    ]
    basis = PROJECTED if all(row.is_validated for pair in pairs for row in pair) else UNVALIDATED
    text = f"decode over BF16 at batch {batch}, context {ask.prompt}, {basis}: {'; '.join(parts)}"
    sources = tuple(dict.fromkeys(line for pair in pairs for row in pair for line in row.basis))
    return Known(min(low for low, _ in spans), max(high for _, high in spans), basis, text, sources)


def _best(rows: list[Projection], engine: str, weights: str) -> Projection | None:
    ours = [row for row in rows if row.metrics and row.candidate.engine == engine and row.candidate.weights == weights]
    return max(ours, key=lambda row: row.metrics["decode_throughput"].low, default=None)


def _ratio(ours: Projection, base: Projection) -> tuple[float, float]:
    own, other = ours.metrics["decode_throughput"], base.metrics["decode_throughput"]
    return own.low / other.high, own.high / other.low
