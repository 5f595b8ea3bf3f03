"""A folder that vLLM loads, for a model and a precision: the checkpoint itself, an export of ours, or a shape without
weights.

In: ModelSource, Precision, layout. Out: `VllmWeights`. Exports are made by fp4moe.checkpoint.export, so that vLLM runs the
very codes and scales that our runtime runs, and are kept in a cache (HARNESS_CACHE, else ~/.cache/fp4moe-harness); the key
names the source's files, the layout, the method and the sources of the quantizer.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fp4moe
from fp4moe.checkpoint import STORAGES, export, open_checkpoint
from fp4moe.checkpoint.expected import Sizes
from fp4moe.checkpoint.quantization_config import HF_QUANT_CONFIG, announce
from fp4moe.errors import CheckpointError
from fp4moe.precision import Precision
from fp4moe.runtime import load_model
from harness.models import GPU_ONLY_PARAMETERS, ModelSource

CACHE_VARIABLE = "HARNESS_CACHE"
QUANTIZER_SOURCES = ("quantize", "checkpoint", "formats.py", "pack.py")
MIXTRAL_KEYS = {
    "architectures": ["MixtralForCausalLM"], "torch_dtype": "bfloat16", "hidden_act": "silu", "sliding_window": None,
    "attention_dropout": 0.0, "router_aux_loss_coef": 0.02, "output_router_logits": False, "initializer_range": 0.02,
}  # fmt: skip
"""What vLLM wants of a config.json beside what a shape needs."""


@dataclass(frozen=True, slots=True)
class VllmWeights:
    """What to load, and what the record says of it."""

    folder: Path
    load_format: str
    """vLLM's: `auto`, or `dummy` where there are no weights."""
    layout: str | None
    """How they are stored; None: BF16."""
    sha256: str | None
    """As our runtime counts it over the same codes and scales; None where that was not computed."""

    def block(self, source: str) -> dict:
        """The record's `weights`."""
        return {"sha256": self.sha256, "source": source, "layout": self.layout or "bf16", "load_format": self.load_format}


def prepare(source: ModelSource, precision: Precision, layout: str | None, progress: Callable[[int, int], None]) -> VllmWeights:
    """The folder; CheckpointError where the stored format is another one."""
    if source.path is None:
        return VllmWeights(_shape_only(source, layout), "dummy", layout, None)
    stored = STORAGES[open_checkpoint(source.path).storage]
    if stored.weight_format == precision.weights:
        folder, layout = Path(source.path), None if precision.weights == "bf16" else stored.name
    elif stored.weight_format != "bf16":
        raise CheckpointError(
            f"{source.path}: its experts are stored as {stored.weight_format}; start from the BF16 checkpoint"
        )
    else:
        folder = _exported(source, precision, layout, progress)
    is_small = source.num_parameters < GPU_ONLY_PARAMETERS
    return VllmWeights(folder, "auto", layout, load_model(folder, precision).weights_sha256 if is_small else None)


def cache_folder() -> Path:
    """Where exports are kept between runs."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fp4moe-harness"
    return Path(os.environ.get(CACHE_VARIABLE, default))


def _exported(source: ModelSource, precision: Precision, layout: str, progress: Callable[[int, int], None]) -> Path:
    key = _key([layout, precision.method, *_files(Path(source.path)), *_quantizer()])
    folder = cache_folder() / "exports" / f"{source.name}-{layout}-{precision.method}-{key}"
    if not (folder / "config.json").is_file():
        export(source.path, folder, layout, precision.method, progress=progress)
    return folder


def _shape_only(source: ModelSource, layout: str | None) -> Path:
    """A config.json without weights. vLLM fills them by its own rule, so they are not ours: speed and memory only."""
    config, legacy = MIXTRAL_KEYS | source.config, None
    if layout is not None:
        sizes = Sizes.from_config(source.config, source.name)
        config["quantization_config"], legacy = announce(STORAGES[layout], sizes, False)
    text = json.dumps(config, indent=1, sort_keys=True)
    folder = cache_folder() / "shapes" / f"{source.name}-{layout or 'bf16'}-{_key([text])}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", text)
    if legacy is not None:
        _write(folder / HF_QUANT_CONFIG, json.dumps(legacy, indent=1))
    return folder


def _write(file: Path, text: str) -> None:
    """Whole or not at all: two runs may write the same one."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as part:
        part.write(text)
    os.replace(part.name, file)


def _key(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _files(folder: Path) -> list[str]:
    """Name, size and time of change of each file: hashing 90 GB would take longer than the run."""
    stats = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
    return [str(folder), *(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)]


def _quantizer() -> list[str]:
    """Contents of the sources that decide about codes and scales."""
    root = Path(fp4moe.__file__).parent
    files = [
        file for name in QUANTIZER_SOURCES for file in ([root / name] if name.endswith(".py") else (root / name).glob("*.py"))
    ]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files) if file.is_file()]
