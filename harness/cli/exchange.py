"""`harness export` and `harness import`: results in other tools' formats."""

import json
from pathlib import Path

import click

from harness.cli.options import json_option, print_json
from harness.errors import StorageError, UsageError

EXPORTS = {"vllm": "vllm_bench", "aiperf": "aiperf", "benchmark-report": "benchmark_report"}
IMPORTS = {"vllm": "vllm_bench_read", "aiperf": "aiperf_read"}


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("form", "--format", type=click.Choice(list(EXPORTS)), required=True)
@click.option("out", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Default: RUN/export.")
@json_option
def export(run: Path, form: str, out: Path | None, as_json: bool):
    """Write each finished repeat of RUN's request workloads as vLLM's, AIPerf's or Benchmark Report v0.2's JSON."""
    from importlib import import_module

    from harness.exchange.served import served_in
    from harness.report.data import load

    module = import_module(f"harness.exchange.{EXPORTS[form]}")
    folder, paths = out or run / "export", []
    for served in served_in(load(run)):
        path = folder / f"{served.name}.{form}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(module.export(served), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{path}: could not be stored ({error}); choose another folder with --out") from None
        paths.append(str(path))
    if as_json:
        print_json({"format": form, "files": paths})
    else:
        click.echo("\n".join(paths))


@click.command(name="import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("form", "--format", type=click.Choice(list(IMPORTS)), required=True)
@click.option("model", "--model", metavar="NAME", help="As this project names it. Default: from the file.")
@click.option(
    "weights", "--weights", default="unknown", metavar="FORMAT", help="Weight format, as nvfp4; the file does not say."
)
@click.option("activations", "--activations", default="unknown", metavar="FORMAT", help="Activation format, as bf16.")
@click.option(
    "target", "--target", default="unknown", metavar="NAME", help="The machine, as 'NVIDIA H100'; the file does not say."
)
@click.option(
    "tool_version", "--tool-version", metavar="TEXT", help="Of the tool, where its file does not say (vLLM's does not)."
)
@click.option("out", "--out", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@json_option
def import_(files, form, model, weights, activations, target, tool_version, out, as_json):
    """Read FILEs of `vllm bench serve --save-result` or AIPerf as one run; files of one workload become its repeats."""
    from importlib import import_module

    from harness.exchange.imported import Described, write_run

    if (out / "run.json").exists():
        raise UsageError(f"--out {out}: already holds a run; name another folder")
    module = import_module(f"harness.exchange.{IMPORTS[form]}")
    results = [result for path in files for result in module.read(path)]
    folder = write_run(results, Described(model, weights, activations, target, tool_version), out, list(files))
    if as_json:
        print_json({"folder": str(folder), "num_records": len(results)})
    else:
        click.echo(f"run      {folder}\nrecords  {len(results)}")
