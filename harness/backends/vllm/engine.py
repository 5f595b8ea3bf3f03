"""One vLLM engine process: how it is started, what it is asked, what it said of itself.

In: environment, spec, weights, sizes. Out: `Engine`, with `ask` and the facts of its load. Everything it prints is kept in
a log file, from which its decisions are read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.backends.child import Child
from harness.backends.vllm.environment import VllmEnvironment
from harness.backends.vllm.log import Decisions, read_log
from harness.backends.vllm.weights import VllmWeights
from harness.errors import WorkerError
from harness.scenario.backends import VllmBackendSpec

DRIVER = Path(__file__).with_name("driver.py")
CPU_KV_CACHE_GIB = "1"
NOT_ASKED = "not asked for: it costs time in every step"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the scenario's workloads need at most."""

    slots: int
    context: int
    seed: int
    cpu_threads: int
    load_timeout_s: float
    cell_timeout_s: float
    """Seconds without a sign of life."""

    @classmethod
    def of(cls, told: dict, max_positions: int) -> "Sizes":
        """From harness.run.group's words. A window of the held-out text is scored with one token generated after it."""
        context = min(told["context"] + 1, max_positions)
        return cls(**told | {"slots": max(1, told["slots"]), "context": context})


def engine_args(spec: VllmBackendSpec, weights: VllmWeights, sizes: Sizes, *, on_cpu: bool) -> dict:
    """vLLM's own names; the scenario's `args` win. Prefix caching is off, since our runtime has none."""
    defaults = {
        "dtype": "bfloat16",
        "load_format": weights.load_format,
        "max_model_len": sizes.context,
        "max_num_seqs": sizes.slots,
        "enable_prefix_caching": False,
        "seed": sizes.seed,
        "disable_log_stats": True,
    }
    # On a CPU, compiling takes longer than a small run and its gain is the compiler's, not the engine's.
    return defaults | ({"enforce_eager": True} if on_cpu else {}) | spec.args


def variables(spec: VllmBackendSpec, found: VllmEnvironment, sizes: Sizes, *, on_cpu: bool) -> dict[str, str]:
    """Environment of a vLLM process; the scenario's `env` wins."""
    threads = {
        "OMP_NUM_THREADS": str(sizes.cpu_threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": CPU_KV_CACHE_GIB,
    }
    return found.variables() | (threads if on_cpu else {}) | spec.env


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that stays the same between the engines of one (model, precision)."""

    found: VllmEnvironment
    spec: VllmBackendSpec
    weights: VllmWeights
    sizes: Sizes
    on_cpu: bool


class Engine:
    """A loaded engine. `close` ends it and all it started."""

    def __init__(self, child: Child, described: dict, decisions: Decisions, args: dict) -> None:
        self._child = child
        self.described, self.decisions, self.args = described, decisions, args

    @classmethod
    def start(cls, launch: Launch, *, wants_routing: bool, progress: Progress) -> "Engine":
        """Start a process and load; WorkerError with the log's last lines when that fails.

        Where an engine that returns routed experts does not start, one without is, and `routing_refused` says why: some
        versions and devices cannot, and each says so in its own way.
        """
        refused = None if wants_routing else NOT_ASKED
        if wants_routing:
            try:
                return cls._load(launch, {"enable_return_routed_experts": True}, None, progress)
            except WorkerError as error:
                refused = str(error).split("; its last words")[0]
        return cls._load(launch, {}, refused, progress)

    @classmethod
    def _load(cls, launch: Launch, more: dict, refused: str | None, progress: Progress) -> "Engine":
        spec, sizes = launch.spec, launch.sizes
        # Offline, one process is enough, and its model can be looked into; DEBUG tells why candidates were passed over.
        own = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "DEBUG"}
        changes = own | variables(spec, launch.found, sizes, on_cpu=launch.on_cpu)
        child = Child.in_new_folder([launch.found.python, "-P", str(DRIVER)], log_name="vllm.log", changes=changes)
        args = engine_args(spec, launch.weights, sizes, on_cpu=launch.on_cpu) | {"skip_tokenizer_init": True} | more
        try:
            described = child.ask(
                "load",
                timeout_s=sizes.load_timeout_s,
                on_progress=lambda message: progress(message["done"], message["total"], "loading"),
                on_wait=lambda: progress(0, 1, "loading"),
                model=str(launch.weights.folder),
                engine_args=args,
            )
        except WorkerError:
            child.close()
            raise
        decisions = read_log(child.log.read_text(errors="replace"))
        return cls(child, described | {"routing_refused": refused}, decisions, args)

    def ask(self, command: str, *, timeout_s: float, progress: Progress, **arguments):
        """Send a command to the driver and wait for its result."""
        return self._child.ask(
            command,
            timeout_s=timeout_s,
            on_progress=lambda message: progress(message["done"], message["total"], message["what"]),
            on_wait=lambda: progress(0, 1, command),
            **arguments,
        )

    @property
    def log(self) -> Path:
        return self._child.log

    def close(self) -> None:
        self._child.close()
