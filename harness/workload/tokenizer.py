"""A checkpoint's tokenizer as two functions: text -> token ids, token ids -> text."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from harness.errors import ScenarioError

Codec = tuple[Callable[[str], list[int]] | None, Callable[[Sequence[int]], str] | None]


@lru_cache(maxsize=4)
def codec_of(checkpoint: str | None) -> Codec:
    """(encode, decode) of a checkpoint folder; (None, None) for random weights or a folder without a tokenizer."""
    file = None if checkpoint is None else Path(checkpoint) / "tokenizer.json"
    if file is None or not file.is_file():
        return None, None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the only class that the library raises
        raise ScenarioError([f"{file}: cannot be read as a tokenizer ({error})"]) from None
    return (
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False),
    )
