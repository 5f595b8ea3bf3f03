"""`harness kernels list`: every implementation of the table, what it takes and needs, and whether it runs here."""

import click

from harness.cli.options import gpu_option, json_option, print_json, print_table


@click.command("list")
@gpu_option
@json_option
def list_kernels(gpu: str | None, as_json: bool):
    """Every implementation, in order of preference within an operation; with --gpu, which run on that GPU.

    The first of an operation that takes the formats and the shape is chosen: see harness kernels explain.
    """
    from harness import device
    from harness.backends.selection import Place, implementation_rows

    target = device.named(gpu) if gpu else device.detect()
    place = Place.of(target.capability, target.name if target.is_gpu else None, is_attached=target.is_attached)
    rows = implementation_rows(place)
    if as_json:
        print_json({"device": {"kind": target.kind, "name": target.name, "capability": place.capability.name}, "rows": rows})
        return
    where = f"{target.name} ({place.capability.name})"
    click.echo(f"Implementations, best first within an operation. `runs`: in some format on {where}.")
    print_table(lambda: _table(rows))


def _table(rows: list[dict]):
    from rich.table import Table

    table = Table(show_lines=True)
    for name in ("operation", "name", "weights x activations", "needs", "a call", "layout", "runs", "note"):
        table.add_column(name, overflow="fold", no_wrap=name in ("operation", "name"))
    for row in rows:
        runs = "[green]yes[/]" if row["refused_here"] is None else f"[yellow]no[/]: {row['refused_here']}"
        name = f"[bold]{row['name']}[/]"
        table.add_row(row["op"], name, _formats(row), _needs(row), _call(row), row["layout"], runs, row["note"])
    return table


def _formats(row: dict) -> str:
    """Pairs grouped by activations: `nvfp4, mxfp4 x bf16`; `any x any` for all that there are."""
    if row["takes_all_formats"]:
        return "any x any"
    pairs = [(pair["weights"], pair["activations"]) for pair in row["formats"]]
    by_activations: dict[str, list[str]] = {}
    for weights, activations in pairs:
        by_activations.setdefault(activations, []).append(weights)
    by_weights: dict[str, list[str]] = {}
    for activations, weights in by_activations.items():
        by_weights.setdefault(", ".join(weights), []).append(activations)
    return "\n".join(f"{weights} x {', '.join(activations)}" for weights, activations in by_weights.items())


def _needs(row: dict) -> str:
    lines = [*row["device"], *(f"{need['needs']} for {need['activations']}" for need in row["device_for"])]
    return "\n".join([*lines, *row["shape"], *row["tools"]])


def _call(row: dict) -> str:
    if row["max_slots"] is not None:
        return f"up to {row['max_slots']} tokens x top-k"
    if row["max_tokens"] is not None:
        return f"{row['min_tokens']} to {row['max_tokens']} tokens"
    return "any number of tokens" if row["min_tokens"] <= 1 else f"{row['min_tokens']} tokens or more"
