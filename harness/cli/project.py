"""`harness project`: what a model would do on GPUs that were not measured, and how wrong such figures were so far."""

import click

from harness.cli.options import json_option, print_json, print_table


@click.command()
@click.option("gpus", "--gpu", multiple=True, metavar="NAME", help="A GPU of harness/data/gpus.yaml; may stand several times.")
@click.option("--model", default="mixtral-8x7b", show_default=True, help="mixtral-8x7b, or a folder with a config.json.")
@click.option("--prompt", default=1024, show_default=True, help="Tokens in.")
@click.option("--output", default=256, show_default=True, help="Tokens out.")
@click.option("--batch", default=1, show_default=True, help="Requests sent at once.")
@click.option("precisions", "--precision", multiple=True, metavar="FORMAT", help="Only these weight formats, as nvfp4.")
@click.option("--routing", default="uniform", show_default=True, metavar="R", help="uniform, pocket, or recorded:FILE.")
@click.option("--errors", is_flag=True, help="Show the error of the projection instead: calibrated on H100, predicted H200.")
@json_option
def project(gpus, model, prompt, output, batch, precisions, routing, errors, as_json):
    """Project memory, throughput, time to first token and per token; nothing is measured here.

    Every figure is marked: `~` before a value on a measured architecture, a range on one that never was.
    """
    from harness.errors import NothingMeasuredError, UsageError
    from harness.project.curves import published_points

    if errors:
        _show_errors(as_json)
        return
    if not gpus:
        raise UsageError("--gpu: required, and missing; name at least one, as --gpu H100, or ask for --errors")
    rows = _projections(gpus, model, prompt, output, batch, precisions, routing)
    if not rows:
        what = f"no kernel with a measured curve multiplies {', '.join(precisions)} on {', '.join(gpus)}"
        raise NothingMeasuredError(f"--precision: {what}; leave it out to see all that run there")
    _show(rows, published_points({row.gpu.name for row in rows}), as_json)
    if not any(row.metrics for row in rows):
        smallest = min(rows, key=lambda row: row.fit.weight_bytes)
        advice = "choose a larger GPU, shorter lengths, or a smaller batch"
        raise NothingMeasuredError(f"--gpu {', '.join(gpus)}: {smallest.label}: {smallest.reason}; {advice}")


def _show(rows: list, points: list[dict], as_json: bool) -> None:
    if as_json:
        print_json({"projections": [row.to_json() for row in rows], "published": points})
        return
    from harness.project.tables import projections_table, published_text

    print_table(lambda: projections_table(rows))
    if points:
        click.echo(published_text(points))


def _projections(gpus, model, prompt, output, batch, precisions, routing) -> list:
    from harness.project.experts import parse_routing
    from harness.project.gpus import gpu_spec
    from harness.project.projection import Ask, model_by_name, project_all

    specs = [gpu_spec(name) for name in gpus]
    shape = model_by_name(model)
    routes = parse_routing(routing, num_experts=shape.num_experts, top_k=shape.top_k)
    ask = Ask(prompt, output, batch)
    return [row for spec in specs for row in project_all(spec, shape, ask, only=precisions, routing=routes)]


def _show_errors(as_json: bool) -> None:
    from dataclasses import asdict

    from harness.project import loo
    from harness.project.sharpness import sharpness_without

    without = sharpness_without("H200")
    if as_json:
        layers = [asdict(row) | {"error_pct": row.error_pct} for row in loo.layer_errors()]
        steps = [asdict(row) | {"error_pct": row.error_pct} for row in [*loo.decode_errors(), *loo.recorded_errors()]]
        print_json({"sharpness": without.to_json(), "layers": layers, "models": steps})
        return
    from harness.project.tables import layer_errors_table, model_errors_table

    print_table(lambda: layer_errors_table(loo.layer_errors()))
    print_table(lambda: model_errors_table("A step on H200 with layers predicted from H100 alone", loo.decode_errors()))
    recorded = loo.recorded_errors()
    if recorded:
        print_table(lambda: model_errors_table("Whole models measured, predicted without that GPU", recorded))
    click.echo(f"Without H200: {without.source}; the model that projects has another, see docs/projection.md")
