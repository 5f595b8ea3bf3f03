"""Advice for people and for machines: a sentence, a table, when it flips, sources. Projected figures carry their mark."""

from harness.advise import Advice, Option
from harness.advise.options import MAYBE, YES
from harness.project.estimate import PROJECTED, RICH_STYLE, UNVALIDATED
from harness.project.projection import memory_json
from harness.report.numbers import bytes_text, significant

MEETS_STYLE = {YES: "green", MAYBE: "yellow"}


def sentence(advice: Advice) -> str:
    """The answer in one or two sentences."""
    asked = advice.question
    load = f"{asked.rate_per_s:g} requests/s of {asked.prompt} tokens in and {asked.output} out ({asked.slo_text})"
    if advice.choice is None:
        closest = advice.options[0]
        return f"Nothing meets {load} on {asked.gpu.name}. Closest: {closest.name}, {closest.reason or 'over the limits'}."
    choice = advice.choice
    sure = "" if choice.meets == YES else " MAY meet them: only at the fast end of a range"
    own = "" if choice.projection.is_validated else f" The ranges are {UNVALIDATED}: {asked.gpu.family} was never measured."
    return f"For {load} on {asked.gpu.name}: {choice.name}{sure}. {_figures(choice)}{own}"


def _figures(option: Option) -> str:
    mark = PROJECTED if option.projection.is_validated else UNVALIDATED
    fit = option.fit
    return (
        f"It fits: {bytes_text(fit.weight_bytes)} of weights, room for {fit.max_batch} requests. "
        f"TTFT {span(option, 'ttft_ms')} ms, TPOT {span(option, 'tpot_ms')} ms ({mark}). Perplexity {cost(option)}."
    )


def span(option: Option, name: str) -> str:
    """`~48.2` or `171 to 259`; 'saturated' where the rate cannot be served at that end."""
    if not option.loads:
        return "—"
    if option.projection.is_validated:
        value = getattr(option.loads["middle"], name)
        return "saturated" if value is None else f"~{significant(value)}"
    ends = [getattr(option.loads[end], name) for end in ("best", "worst")]
    texts = ["saturated" if value is None else significant(value) for value in ends]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def cost(option: Option) -> str:
    """The rise of perplexity with its interval, or why there is none."""
    quality = option.quality
    if quality.change_pct is None:
        return quality.reason
    if option.projection.candidate.weights == "bf16":
        return "baseline"
    interval = f"[{quality.low_pct:+.2f}, {quality.high_pct:+.2f}]"
    return f"{quality.change_pct:+.2f} % {interval} (pocket-mixtral, {quality.precision})"


def options_table(advice: Advice):
    """A row an option, the advised one marked."""
    from rich.table import Table
    from rich.text import Text

    caption = "TTFT and TPOT under this load are PROJECTED: ~ on a measured architecture, a range where none was (unvalidated)."
    table = Table(title="Options, best first", caption=caption, title_justify="left", caption_justify="left")
    for name in ("", "precision, engine and kernel", "weights", "batch\nfits", "TTFT ms", "TPOT ms", "sure up to\nrequests/s"):
        table.add_column(name, justify="left" if name in ("", "precision, engine and kernel") else "right")
    table.add_column("perplexity of pocket-mixtral", overflow="fold")
    table.add_column("meets", overflow="fold")
    for option in advice.options:
        mark = "→" if option is advice.choice else ""
        style = RICH_STYLE if option.loads else "dim"
        speeds = [Text(span(option, name), style=style) for name in ("ttft_ms", "tpot_ms")]
        rate = Text(significant(option.sure_rate) if option.sure_rate else "—", style=style)
        meets = Text(option.meets, style=MEETS_STYLE.get(option.meets, "dim"))
        if option.reason:
            meets.append(f": {_short(option)}", style="dim")
        name = option.name + option.projection.notes
        fit = option.fit
        quality = cost(option).replace("(pocket-mixtral, ", "(")
        table.add_row(mark, name, bytes_text(fit.weight_bytes), str(fit.max_batch), *speeds, rate, quality, meets)
    return table


def _short(option: Option) -> str:
    """The reason without the arithmetic, which --json has."""
    fit = option.fit
    if fit.fits or not option.reason.startswith("does not fit"):
        return option.reason
    needed = fit.weight_bytes + fit.activation_bytes + fit.kv_bytes_a_sequence
    return f"does not fit, {needed / 1e9:.0f} of {fit.usable_bytes / 1e9:.0f} GB"


def to_json(advice: Advice) -> dict:
    """Everything, every speed marked by `kind`."""
    asked = advice.question
    return {
        "schema_version": 1,
        "question": {
            "gpu": asked.gpu.name, "model": asked.model.name, "prompt_tokens": asked.prompt, "output_tokens": asked.output,
            "rate_per_s": asked.rate_per_s, "slo_ms": asked.slo, "max_loss_pct": asked.max_loss_pct,
        },
        "answer": sentence(advice),
        "choice": None if advice.choice is None else advice.options.index(advice.choice),
        "options": [_option_json(option) for option in advice.options],
        "flips": list(advice.flips),
        "sources": list(advice.sources),
    }  # fmt: skip


def _option_json(option: Option) -> dict:
    row, quality = option.projection, option.quality
    kind = PROJECTED if row.is_validated else UNVALIDATED
    loads = {
        end: {name: _plain(getattr(load, name)) for name in ("batch", "ttft_ms", "tpot_ms")} | {"reason": load.reason}
        for end, load in option.loads.items()
    }
    return {
        "engine": row.candidate.engine, "kernel": row.candidate.kernel, "weights": row.candidate.weights,
        "activations": row.candidate.activations, "precision": row.label, "stand_in": row.candidate.stand_in or None,
        "memory": memory_json(row.fit), "speed": {"kind": kind, "loads": loads, "sure_rate_per_s": option.sure_rate},
        "quality": {
            "kind": "measured", "model": "pocket-mixtral", "precision": quality.precision, "source": quality.source or None,
            "perplexity_change_pct": quality.change_pct, "low_pct": quality.low_pct, "high_pct": quality.high_pct,
            "reason": quality.reason or None,
        },
        "meets": option.meets, "reason": option.reason, "basis": list(row.basis),
    }  # fmt: skip


def _plain(value: float | None) -> float | None:
    return None if value is None else float(value)
