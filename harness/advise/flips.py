"""Conditions under which the advice flips: rate, prompt, memory, loss of quality.

In: the question and the options, best first. Out: sentences, each with the figure at which another answer is right.
"""

from harness.advise.ask import Question
from harness.advise.options import MAYBE, NO, YES, Option, limits, slow_end
from harness.project.load import longest_prompt
from harness.report.numbers import significant

MAX_OTHERS = 3


def flips(question: Question, found: list[Option]) -> list[str]:
    """What would change the answer, most likely first."""
    choice = found[0]
    lines = [*_rate(question, choice), *_prompt(question, choice), *_memory(question, choice)]
    others: dict[str, Option] = {}
    for other in sorted(found[1:], key=lambda other: other.sure_rate):
        if other.projection.label != choice.projection.label:
            others[other.projection.label] = other
    ordered = sorted(others.values(), key=lambda other: (not other.projection.metrics, found.index(other)))
    lines += [line for other in ordered if (line := _other(choice, other))][:MAX_OTHERS]
    if not question.gpu.is_validated:
        lines.append(
            f"{question.gpu.family} was never measured: a record of `harness kernels bench` and of a whole model there "
            "replaces every range above"
        )
    return lines


def _rate(question: Question, choice: Option) -> list[str]:
    if choice.sure_rate <= 0:
        return ["the limits do not hold at any rate at the slow end of the projection: relax --slo, or measure"]
    sure = significant(choice.sure_rate)
    word = "above" if choice.sure_rate >= question.rate_per_s else "already above"
    limits = f" ({question.slo_text})" if question.slo else ""
    return [f"{word} {sure} requests/s {choice.name} no longer surely meets the limits{limits}"]


def _prompt(question: Question, choice: Option) -> list[str]:
    step = choice.projection.step
    if step is None or choice.meets != YES:
        return []
    most = longest_prompt(
        step, question.rate_per_s, question.output, limits(choice.projection, question.slo)[0],
        max_tokens=question.model.max_positions, end=slow_end(choice.projection), room=choice.fit.room_bytes,
    )  # fmt: skip
    if most + question.output >= question.model.max_positions - 16:
        return []
    return [f"with prompts longer than about {most} tokens at {question.rate_per_s:g} requests/s"]


def _memory(question: Question, choice: Option) -> list[str]:
    fit = choice.fit
    text = f"{fit.max_batch} requests of {question.prompt + question.output} tokens fit at once"
    load = choice.loads.get("worst", choice.loads.get("middle"))
    if load is None or load.batch is None:
        return [f"{text}; the load needs more"]
    times = fit.max_batch / max(load.batch, 1)
    return [f"{text}, the load needs about {max(1, round(load.batch))}: with {times:.1f} times the load or length it is full"]


def _other(choice: Option, other: Option) -> str | None:
    """When another option would be right."""
    own, cost = choice.quality.change_pct, other.quality.change_pct
    if other.projection.metrics == {}:
        need = other.fit.weight_bytes + other.fit.activation_bytes + other.fit.kv_bytes_a_sequence
        if own is None or cost is None or cost >= own:
            return None
        costs = f"cost {_cost(other)} instead of {_cost(choice)}"
        return f"on a GPU with {need / 1e9:.0f} GB free, {other.name} would fit and {costs}"
    if own is None or cost is None:
        return None
    better = cost < own - 1e-9
    if better and other.meets in (MAYBE, NO) and other.sure_rate > 0:
        rate = f"up to {significant(other.sure_rate)} requests/s"
        return f"{rate} {other.name} surely meets the limits too, and costs {_cost(other)}"
    if better and other.meets == MAYBE:
        return f"if {other.name} turns out at the fast end of its range, it meets the limits and costs {_cost(other)}"
    if not better and other.sure_rate > 1.1 * choice.sure_rate:
        rates = f"above {significant(choice.sure_rate)} requests/s: {other.name}, sure up to {significant(other.sure_rate)}"
        return f"{rates}, costs {_cost(other)}"
    return None


def _cost(option: Option) -> str:
    value = option.quality.change_pct
    if value is None:
        return "an unmeasured loss"
    return f"{value:+.2f} % perplexity (pocket-mixtral)" if value else "no perplexity"
