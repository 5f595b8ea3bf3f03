"""Windows of the held-out text, over which quality is measured.

In: the text, the checkpoint's tokenizer.json. Out: token windows [W, 1 + window_tokens] that each begin with the
begin-of-text token, spread evenly over the whole text, and the bytes that each scored token stands for.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import ScenarioError


@dataclass(frozen=True, slots=True)
class HeldoutWindows:
    """tokens[w, 0] is the begin-of-text token; tokens[w, 1:] are scored. num_bytes counts the scored tokens' text."""

    tokens: np.ndarray
    num_bytes: int

    @property
    def num_scored(self) -> int:
        return self.tokens.shape[0] * (self.tokens.shape[1] - 1)


def encode_text(checkpoint: Path, text: str) -> tuple[np.ndarray, np.ndarray]:
    """(token ids, bytes each token stands for) of a text under the checkpoint's tokenizer."""
    from tokenizers import Tokenizer

    file = checkpoint / "tokenizer.json"
    if not file.is_file():
        raise ScenarioError([f"{file}: missing; quality and prompts need the checkpoint's tokenizer"])
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the only class that the library raises
        raise ScenarioError([f"{file}: cannot be read as a tokenizer ({error})"]) from None
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return np.asarray(encoding.ids, dtype=np.int64), _bytes_by_token(text, [end for _, end in encoding.offsets])


def _bytes_by_token(text: str, ends: list[int]) -> np.ndarray:
    """Bytes that each token adds to the text covered so far; a token that ends inside a character adds none."""
    byte_of_char = np.concatenate([[0], np.cumsum([len(character.encode()) for character in text])])
    covered = byte_of_char[np.maximum.accumulate(np.asarray(ends, dtype=np.int64))]
    return np.diff(covered, prepend=0)


def make_windows(ids: np.ndarray, num_bytes: np.ndarray, *, window: int, max_tokens: int, bos_id: int) -> HeldoutWindows:
    """Cut the text into whole windows and keep `max_tokens // window` of them, evenly spread."""
    total = len(ids) // window
    keep = min(total, max(1, max_tokens // window))
    if total == 0:
        raise ScenarioError([f"quality.window_tokens: {window} is longer than the held-out text ({len(ids)} tokens)"])
    chosen = np.linspace(0, total - 1, keep).round().astype(np.int64)
    rows = chosen[:, None] * window + np.arange(window)[None, :]
    tokens = np.concatenate([np.full((keep, 1), bos_id, dtype=np.int64), ids[rows]], axis=1)
    return HeldoutWindows(tokens, int(num_bytes[rows].sum()))
