"""`harness kernels explain`: what is taken for a GPU, format and model, at how many tokens, and why not the others."""

import click

from harness.cli.options import gpu_option, json_option, print_json, print_table
from harness.errors import UsageError


@click.command()
@gpu_option
@click.option("weights", "--format", default="nvfp4", show_default=True, metavar="NAME", help="Format of the weights.")
@click.option("activations", "--activations", default="bf16", show_default=True, metavar="NAME", help="Their activations.")
@click.option("tokens", "--tokens", type=click.IntRange(1), metavar="N", help="Also say what a call of N tokens takes.")
@click.option("model", "--model", default="mixtral-8x7b", show_default=True, metavar="NAME", help="Whose MoE layer.")
@json_option
def explain(gpu: str | None, weights: str, activations: str, tokens: int | None, model: str, as_json: bool):
    """Which implementation each operation takes on this machine, or with --gpu on another, and why not the others."""
    from harness import device
    from harness.backends.selection import Place
    from harness.precisions import ACTIVATIONS, METHODS
    from harness.scenario.schema import KNOWN_MODELS

    _check("--format", weights, tuple(METHODS))
    _check("--activations", activations, ACTIVATIONS)
    _check("--model", model, KNOWN_MODELS)
    target = device.named(gpu) if gpu else device.detect()
    place = Place.of(target.capability, target.name if target.is_gpu else None, is_attached=target.is_attached)
    answer = _answer(weights, activations, model, tokens, place=place)
    answer = {"device": {"kind": target.kind, "name": target.name, "capability": place.capability.name}} | answer
    if as_json:
        print_json(answer)
    else:
        _print(answer)


def _check(option: str, value: str, allowed: tuple[str, ...]) -> None:
    import difflib

    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{option} {value!r}: not known (allowed: {', '.join(allowed)}){hint}")


def _answer(weights: str, activations: str, model: str, tokens: int | None, *, place) -> dict:
    from harness.backends import selection
    from harness.models import resolve
    from harness.scenario.schema import ModelSpec

    shape = selection.shape_of(resolve(ModelSpec(name=model)).config)
    rows, problem = selection.choices(weights, activations, shape=shape, place=place)
    return {
        "weights": weights,
        "activations": activations,
        "model": model,
        "shape": {name: getattr(shape, name) for name in ("hidden", "intermediate", "num_experts", "top_k")},
        "tokens": tokens,
        "at_tokens": None if tokens is None else {row["op"]: name_at(row, tokens) for row in rows},
        "choices": rows,
        "problem": problem,
        "tuned": selection.tuned_row(weights, activations, shape, place),
        "peer": selection.peer_row(weights, activations, place),
    }


def name_at(row: dict, tokens: int) -> str:
    """What a call of `tokens` tokens takes, from the crossovers of a choice."""
    return next(c["name"] for c in row["crossovers"] if c["max_tokens"] is None or tokens <= c["max_tokens"])


def _print(answer: dict) -> None:
    from rich.console import Console

    shape, where = answer["shape"], answer["device"]
    console = Console(highlight=False)
    title = f"{answer['weights'].upper()} x {answer['activations'].upper()}, {answer['model']} on {where['name']}"
    sizes = f"hidden {shape['hidden']}, intermediate {shape['intermediate']}, {shape['num_experts']} experts"
    console.print(f"[bold]{title}[/] ({where['capability']}; {sizes}, top-{shape['top_k']})", soft_wrap=True)
    if answer["problem"]:
        console.print(answer["problem"], markup=False, soft_wrap=True)
    if answer["choices"]:
        print_table(lambda: _chosen_table(answer))
        console.print("Refused, and why:")
        print_table(lambda: _refused_table(answer))
    if answer["peer"]:
        console.print(f"What {answer['peer']['engine']} would take: its selection rules read, nothing run.", soft_wrap=True)
        print_table(lambda: _peer_table(answer["peer"]))


def _chosen_table(answer: dict):
    from rich.table import Table

    from harness.crossovers import show_crossovers

    table = Table()
    asked = answer["tokens"]
    columns = ("operation", "tokens of a call", "layout of the weights", "crossovers from")
    for name in columns if asked is None else (*columns, f"{asked} tokens take"):
        table.add_column(name, overflow="fold")
    for row in answer["choices"]:
        source = "\n".join([row["source"], *_staleness(answer, row), *row["notes"]])
        cells = [row["op"], show_crossovers(row, separator="\n"), "-" if row["op"] == "route" else row["layout"], source]
        table.add_row(*cells, *([] if asked is None else [f"[bold]{name_at(row, asked)}[/]"]))
    return table


def _staleness(answer: dict, row: dict) -> list[str]:
    tuned = answer["tuned"]
    if row["op"] == "route" or tuned is None or not tuned["is_stale"]:
        return []
    return ["[yellow]STALE[/]: the kernels' sources have changed since; measure again with harness kernels tune"]


def _refused_table(answer: dict):
    from rich.table import Table

    table = Table()
    for name in ("operation", "name", "why"):
        table.add_column(name, overflow="fold", no_wrap=name != "why")
    for row in answer["choices"]:
        for item in row["refused"]:
            table.add_row(row["op"], item["name"], item["reason"])
    return table


def _peer_table(peer: dict):
    from rich.table import Table

    table = Table()
    for name in ("name", "verdict"):
        table.add_column(name, overflow="fold")
    if peer["chosen"]:
        table.add_row(f"[bold]{peer['chosen']}[/]", f"[green]chosen[/]; computes {peer['computes']}")
    for item in peer["refused"]:
        table.add_row(item["name"], item["reason"])
    return table
