"""`harness serve MODEL`: our runtime as an OpenAI-compatible server, until Ctrl-C."""

import json
import os
from pathlib import Path

import click

from harness.cli.options import json_option
from harness.errors import UsageError
from harness.precisions import ACTIVATIONS, METHODS, Precision
from harness.progress import say


@click.command()
@click.argument("model")
@click.option(
    "weights", "--precision", type=click.Choice(tuple(METHODS)), default="nvfp4", show_default=True, help="Weight format."
)
@click.option("method", "--method", help="How weights are quantized; default: the format's best.")
@click.option("activations", "--activations", type=click.Choice(ACTIVATIONS), default="bf16", show_default=True)
@click.option("implementation", "--implementation", help="Force one kernel; see `harness kernels list`.")
@click.option("host", "--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("port", "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("device", "--device", default="auto", show_default=True, help="auto, cpu or cuda:0.")
@click.option("max_slots", "--max-slots", type=click.IntRange(1, 4096), default=16, show_default=True, help="Served at a time.")
@click.option(
    "max_waiting", "--max-waiting", type=click.IntRange(0), default=1024, show_default=True, help="Queued; more get 429."
)
@click.option("max_context", "--max-context", type=click.IntRange(2), help="Tokens of prompt and answer; default: the model's.")
@click.option("name", "--name", help="Model name that clients use; default: MODEL's.")
@click.option("api_key", "--api-key", envvar="HARNESS_API_KEY", help="Ask clients for this key (or set HARNESS_API_KEY).")
@click.option("cpu_threads", "--cpu-threads", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option("seed", "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of random weights.")
@click.option("is_random", "--random-weights", is_flag=True, help="Serve the architecture with random weights (speed only).")
@json_option
def serve(
    model: str,
    host: str,
    port: int,
    device: str,
    name: str | None,
    api_key: str | None,
    is_random: bool,
    as_json: bool,
    **given,
):
    """Serve MODEL (pocket-mixtral, mixtral-8x7b or a checkpoint folder) over HTTP: /v1/completions, /v1/chat/completions,
    /v1/models, /metrics, /health. With --json, one line of JSON says when it is ready and where.
    """
    from harness.backends.native_serve import ServeOptions, load
    from harness.serve.app import Served
    from harness.serve.run import listen, serve_until_ended

    listening = listen(host, port)
    source = _source(model, "random" if is_random else "auto")
    precision = _precision(given.pop("weights"), given.pop("method"), given.pop("activations"))
    options = ServeOptions(precision=precision, torch_device=_torch_device(device), **given)
    say(f"loading {source.name} in {precision.label} ...")
    loaded = load(source, options, progress=lambda done, total, what: None)
    served = Served(name or source.name, loaded.details, loaded.limits.max_context, api_key)

    def ready(url: str) -> None:
        row = {"event": "ready", "url": f"{url}/v1", "model": served.name, "pid": os.getpid()}
        click.echo(json.dumps(row) if as_json else f"{served.name} in {precision.label} at {url}/v1 (Ctrl-C ends it)")

    serve_until_ended(loaded.engine, served=served, codec=loaded.codec, limits=loaded.limits, listening=listening, ready=ready)


def _source(model: str, weights: str):
    """The checkpoint that MODEL means: a known name, else a folder."""
    from harness.models import resolve
    from harness.scenario.schema import KNOWN_MODELS, ModelSpec

    if model in KNOWN_MODELS:
        return resolve(ModelSpec(name=model, weights=weights), "MODEL")
    folder = Path(model).expanduser()
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"MODEL {model!r}: must be one of {', '.join(KNOWN_MODELS)}, or a folder with config.json and *.safetensors"
        )
    return resolve(ModelSpec(name="checkpoint", path=str(folder.resolve()), weights=weights), "MODEL")


def _precision(weights: str, method: str | None, activations: str) -> Precision:
    if method is not None and method not in METHODS[weights]:
        raise UsageError(f"--method {method}: must be one of {', '.join(METHODS[weights])} for {weights}")
    return Precision(weights, method or METHODS[weights][0], activations)


def _torch_device(device: str) -> str:
    """`auto`: the first GPU, else the CPU."""
    from harness.device import attached_gpus, detect

    if device == "auto":
        return detect().torch_device
    if device != "cpu" and not (device.partition(":")[0] == "cuda" and attached_gpus()):
        raise UsageError(f"--device {device}: must be auto, cpu, or cuda:N where a GPU is attached; see `harness doctor`")
    return device
