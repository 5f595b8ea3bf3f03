"""Which checkpoint stands behind a model's name.

`resolve(spec)` -> `ModelSource`: a folder with trained weights, or an architecture whose weights are drawn at random
(speed and memory only). Looks at folders, reads config.json, loads nothing.
"""

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from harness.errors import ScenarioError
from harness.scenario.schema import ModelSpec

MIXTRAL_8X7B = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 8,
    "num_experts_per_tok": 2, "vocab_size": 32000, "max_position_embeddings": 32768, "rope_theta": 1e6,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
"""Mixtral-8x7B-v0.1's published config.json, for random weights where the checkpoint is not there."""

_OPTIONAL = ("head_dim", "rope_theta", "tie_word_embeddings", "bos_token_id", "eos_token_id")
"""Keys that a config.json may lack."""

_INTEGERS = {
    "hidden_size": (1, 2**17), "intermediate_size": (1, 2**20), "num_hidden_layers": (1, 1024),
    "num_attention_heads": (1, 4096), "num_key_value_heads": (1, 4096), "head_dim": (2, 4096),
    "num_local_experts": (1, 256), "num_experts_per_tok": (1, 256), "vocab_size": (1, 2**22),
    "max_position_embeddings": (1, 2**26),
}  # fmt: skip
"""Key -> the values that are taken seriously, far beyond any published model; others are a damaged file."""

_OBJECTS = ("rope_parameters", "rope_scaling", "quantization_config")
_NUMBERS = {"rms_norm_eps": (1e-20, 1.0), "rope_theta": (1.0, 1e12)}

GPU_ONLY_PARAMETERS = 1_000_000_000
"""Above this many parameters the plain-torch runtime on a CPU would take hours a cell, so a GPU is required."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's weights come from."""

    name: str
    path: str | None
    """Checkpoint folder; None for random weights."""
    weights: str
    """`trained` or `random`."""
    config: dict
    """config.json."""
    is_user_path: bool
    """Whether the scenario named the folder; such a checkpoint is read through before anything is written."""

    @property
    def num_parameters(self) -> int:
        """Parameters of a Mixtral decoder with this configuration."""
        c = self.config
        hidden, layers, vocab = c["hidden_size"], c["num_hidden_layers"], c["vocab_size"]
        head_dim = c.get("head_dim") or hidden // c["num_attention_heads"]
        attention = 2 * hidden * head_dim * (c["num_attention_heads"] + c["num_key_value_heads"])
        experts = c["num_local_experts"] * (3 * hidden * c["intermediate_size"] + hidden)
        embeddings = vocab * hidden * (1 if c.get("tie_word_embeddings") else 2)
        return layers * (attention + experts + 2 * hidden) + embeddings + hidden

    @property
    def max_positions(self) -> int:
        return int(self.config["max_position_embeddings"])


def resolve(spec: ModelSpec, place: str = "models") -> ModelSource:
    """Find the weights of a model; raises ScenarioError when the scenario insists on trained ones and none are there."""
    folder = Path(spec.path) if spec.path else _known_folder(spec.name)
    if folder is not None and spec.weights != "random":
        return ModelSource(spec.name, str(folder), "trained", _read_config(folder, place), spec.path is not None)
    if spec.weights == "trained":
        raise ScenarioError([f"{place}: {spec.name}: no checkpoint found here; give `path`, or `weights: random`"])
    config = MIXTRAL_8X7B if folder is None else _read_config(folder, place)
    return ModelSource(spec.name, None, "random", config, is_user_path=False)


def pocket_folder() -> Path:
    """The folder of the checkpoint that ships with the project; found without importing torch."""
    package = find_spec("fp4moe")
    return Path(next(iter(package.submodule_search_locations))) / "pocket" / "data"


def _known_folder(name: str) -> Path | None:
    if name == "pocket-mixtral":
        return pocket_folder()
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    snapshots = sorted(cache.glob("models--mistralai--Mixtral-8x7B-v0.1/snapshots/*/config.json"))
    return snapshots[-1].parent if snapshots else None


def _read_config(folder: Path, place: str) -> dict:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise ScenarioError([f"{place}: {file}: cannot be read as JSON ({error})"]) from None
    if not isinstance(config, dict):
        found = type(config).__name__
        raise ScenarioError([f"{place}: {file}: must be a JSON object of keys (got {found})"])
    missing = [key for key in MIXTRAL_8X7B if key not in config and key not in _OPTIONAL]
    if missing:
        raise ScenarioError([f"{place}: {file}: not a Mixtral configuration, lacks {', '.join(missing)}"])
    if config["model_type"] != "mixtral":
        raise ScenarioError([f"{place}: {file}: model_type is {config['model_type']!r} (allowed: 'mixtral')"])
    problems = [f"{place}: {file}: {problem}" for problem in _value_problems(config)]
    if problems:
        raise ScenarioError(problems)
    return config


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _value_problems(config: dict) -> list[str]:
    problems = [
        f"{key}: must be an integer from {low} to {high} (got {_shown(config[key])})"
        for key, (low, high) in _INTEGERS.items()
        if config.get(key) is not None or key not in _OPTIONAL
        if not _is_integer(config[key], low, high)
    ]
    numbers = {key: (config.get(key), limits) for key, limits in _NUMBERS.items()}
    for key in _OBJECTS:
        value = config.get(key)
        if isinstance(value, dict):
            numbers[f"{key}.rope_theta"] = (value.get("rope_theta"), _NUMBERS["rope_theta"])
        elif value is not None:
            problems.append(f"{key}: must be an object of keys or null (got {_shown(value)})")
    problems += [
        f"{key}: must be a number from {low:g} to {high:g} (got {_shown(value)})"
        for key, (value, (low, high)) in numbers.items()
        if value is not None and not (_is_number(value) and low <= value <= high)
    ]
    return problems


def _is_integer(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
