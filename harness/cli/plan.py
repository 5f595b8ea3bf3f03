"""`harness plan SCENARIO`: the cells, the kernel each would take and why, what was dropped and why."""

from dataclasses import asdict
from pathlib import Path

import click

from harness.cli.options import (
    gpu_option,
    json_option,
    only_option,
    print_json,
    print_table,
    scenario_argument,
    set_option,
)
from harness.crossovers import show_crossovers
from harness.drops import group_drops


@click.command()
@scenario_argument
@set_option
@only_option
@gpu_option
@json_option
def plan(scenario_path: str, overrides: tuple[str, ...], only: str | None, gpu: str | None, as_json: bool):
    """Show what `harness run SCENARIO` would do, here or on another GPU; runs nothing."""
    from harness import device
    from harness.run import prepare
    from harness.run.records import plan_block
    from harness.scenario import load_scenario

    scenario = load_scenario(Path(scenario_path), overrides)
    target = device.named(gpu) if gpu else device.detect()
    prepared = prepare(scenario, target, only=only)
    if as_json:
        facts = [{"model": m, "precision": p} | asdict(f) for (m, p), f in prepared.facts.items()]
        facts += [{"backend": b, "model": m, "precision": p} | asdict(f) for (b, m, p), f in prepared.backend_facts.items()]
        print_json({"device": {"kind": target.kind, "name": target.name}, "facts": facts} | plan_block(prepared))
        return
    print_table(lambda: _cells_table(prepared))
    if prepared.plan.dropped:
        print_table(lambda: _dropped_table(prepared))
    print_table(lambda: _kernels_table(prepared))
    if any(facts.peer for facts in prepared.facts.values()):
        print_table(lambda: _peers_table(prepared))


def _cells_table(prepared):
    from rich.table import Table

    table = Table(title=f"{len(prepared.plan.cells)} cells on {prepared.device.name}", title_justify="left")
    has_several = len(prepared.scenario.backends) > 1
    names = [
        "model",
        *(["backend"] if has_several else []),
        "precision (weights x activations)",
        "workload",
        "repeats",
        "memory",
    ]
    for name in names:
        table.add_column(name, justify="right" if name in ("repeats", "memory") else "left")
    for cell in prepared.plan.cells:
        facts = prepared.facts_of(cell)
        memory = "elsewhere" if facts.is_elsewhere else show_bytes(sum(facts.memory_bytes.values()))
        repeats = str(cell.num_repeats(prepared.scenario))
        names = [cell.model, cell.backend] if has_several else [cell.model]
        table.add_row(*names, cell.precision.label, cell.workload_name, repeats, memory)
    return table


def _dropped_table(prepared):
    from rich.table import Table

    from harness.run.records import plan_block

    table = Table(title="dropped", title_justify="left")
    for name in ("model", "cells", "target", "why"):
        table.add_column(name, overflow="fold")
    for group in group_drops(plan_block(prepared)["dropped"]):
        table.add_row(group.model, str(group.num_cells), ", ".join(group.targets), group.reason)
    return table


def _kernels_table(prepared):
    from rich.table import Table

    title = "implementation of each operation, by the tokens of a call"
    table = Table(title=title, title_justify="left")
    for name in ("precision", "operation", "chosen", "refused, and why"):
        table.add_column(name, overflow="fold")
    for precision, models, facts in _alike(prepared.facts):
        name = precision if models is None else f"{precision}\n({', '.join(models)})"
        for row in facts.choices:
            refused = "\n".join(f"{item['name']}: {item['reason']}" for item in row["refused"]) or "-"
            table.add_row(name, row["op"], "\n".join([show_crossovers(row, separator="\n"), *row["notes"]]), refused)
        if facts.problem:
            table.add_row(name, "-", "none", facts.problem)
    return table


def _alike(facts) -> list[tuple]:
    """(precision, models, facts) once for models that choose alike; models is None where all of a precision do."""
    groups: dict[str, list[tuple[list[str], object]]] = {}
    for (model, precision), found in facts.items():
        known = groups.setdefault(precision, [])
        same = next(
            (models for models, other in known if (other.choices, other.problem) == (found.choices, found.problem)), None
        )
        if same is None:
            known.append(([model], found))
        else:
            same.append(model)
    return [(p, None if len(known) == 1 else m, found) for p, known in groups.items() for m, found in known]


def _peers_table(prepared):
    from rich.table import Table

    title = f"what vLLM would take on {prepared.device.name}: its selection rules read, nothing run"
    table = Table(title=title, title_justify="left")
    for name in ("precision", "chosen", "computes", "refused, and why"):
        table.add_column(name, overflow="fold")
    for precision, peer in {precision: facts.peer for (_, precision), facts in prepared.facts.items()}.items():
        if peer is not None:
            refused = "\n".join(f"{item['name']}: {item['reason']}" for item in peer["refused"])
            table.add_row(precision, peer["chosen"] or "none", peer["computes"] or "-", refused)
    return table


def show_bytes(size: int) -> str:
    """`12.3 MB` or `25.4 GB`, powers of ten."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
