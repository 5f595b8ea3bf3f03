"""What must hold of a checkpoint before anything is written: sizes, blocks, tensors, tokenizer, text.

In: a ModelSource, precisions, what the scenario wants of the text. Out: the config, or an error that names file, key
or tensor, value and rule. A checkpoint that the scenario names is read through for shapes, NaN and inf; the shipped one
and random weights are not.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fp4moe.checkpoint import STORAGES, open_checkpoint
from fp4moe.errors import CheckpointError, Fp4MoeError
from fp4moe.formats import activation_format, weight_format
from fp4moe.precision import Precision
from fp4moe.runtime import MixtralConfig
from harness.errors import HarnessError
from harness.models import ModelSource, pocket_folder
from harness.workload.heldout import encode_text

Text = tuple[np.ndarray, np.ndarray]


def read_config(source: ModelSource) -> MixtralConfig:
    """The configuration; CheckpointError for what the runtime does not compute."""
    place = _place(source)
    try:
        return MixtralConfig.from_dict(source.config, place=place)
    except CheckpointError as error:
        raise CheckpointError(f"{place}: {str(error).removeprefix(f'{place}: ').removeprefix('config: ')}") from None


def read_text(source: ModelSource) -> Text | None:
    """(token ids, bytes a token) of the held-out text under the model's tokenizer; None for random weights.

    A folder without heldout.txt is measured on the shipped text.
    """
    if source.path is None:
        return None
    folder = Path(source.path)
    own = folder / "heldout.txt"
    file = own if own.is_file() else pocket_folder() / "heldout.txt"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read as UTF-8 text ({error})") from None
    ids, num_bytes = encode_text(folder, text)
    if not len(ids):
        raise CheckpointError(f"{file}: holds no token; prompts and windows are cut from it")
    if ids.max() >= source.config["vocab_size"]:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'}: gives token id {ids.max()} (must be below vocab_size, "
            f"{source.config['vocab_size']}); it belongs to another model"
        )
    return ids, num_bytes


def check_source(source: ModelSource, precisions: Sequence[Precision], window_tokens: int | None) -> str | None:
    """Look at everything that can be wrong; gives the format that its experts are stored in, None for random weights.

    `window_tokens` is None where no quality is measured. Raises CheckpointError, FormatError or ScenarioError.
    """
    config = read_config(source)
    for precision in precisions:
        _check_blocks(config, precision, _place(source))
    if source.path is None:
        return None
    if window_tokens is not None:
        _check_begin_of_text(config, _place(source))
    if not source.is_user_path:
        return "bf16"
    try:
        checkpoint = open_checkpoint(Path(source.path))
        checkpoint.validate()
        ids, _ = read_text(source)
    except (Fp4MoeError, HarnessError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make any reader trip; it is the file's fault, not the run's
        what = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{source.path}: cannot be read as a checkpoint ({what})") from error
    if window_tokens is not None and window_tokens > len(ids):
        raise CheckpointError(
            f"{source.path}: its held-out text has {len(ids)} tokens, fewer than quality.window_tokens ({window_tokens})"
        )
    return STORAGES[checkpoint.storage].weight_format


def stored_problem(stored: str | None, precision: Precision) -> str | None:
    """Why weights stored in another 4 or 8 bit format cannot run in `precision`; None when they can."""
    if stored in (None, "bf16", precision.weights):
        return None
    return f"its experts are stored as {stored}, and requantizing loses twice; start from the BF16 checkpoint"


def _check_blocks(config: MixtralConfig, precision: Precision, place: str) -> None:
    """The expert products sum over hidden_size (w1, w3) and intermediate_size (w2): both must be whole blocks."""
    formats = {precision.weights, activation_format(precision.activations).storage} - {None}
    for name in sorted(formats):
        block = weight_format(name).block_k or 1
        for key in ("hidden_size", "intermediate_size"):
            size = getattr(config, key)
            if size % block:
                raise CheckpointError(
                    f"{place}: {key}: must be a multiple of {block}, {name}'s block, for {precision.id} (got {size}); "
                    "choose another precision"
                )


def _check_begin_of_text(config: MixtralConfig, place: str) -> None:
    token = config.bos_token_id
    if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < config.vocab_size:
        raise CheckpointError(
            f"{place}: bos_token_id: must be an integer from 0 to {config.vocab_size - 1} (got {token!r}); "
            "each window of the held-out text begins with it"
        )


def _place(source: ModelSource) -> str:
    return source.name if source.path is None else str(Path(source.path) / "config.json")
