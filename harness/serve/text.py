"""Text to token ids and back, under the checkpoint's tokenizer.

In: tokenizer.json, and tokenizer_config.json for a chat template. Out: ids; text piece by piece, where a piece never ends
inside a character. A model without a chat template gets `role: text` lines, as plain as they can be.
"""

import json
from pathlib import Path

from harness.errors import UsageError

PLAIN_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
REPLACEMENT = "\ufffd"


class Codec:
    """A tokenizer with its chat template."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        file = folder / "tokenizer.json"
        if not file.is_file():
            raise UsageError(f"{file}: missing; text prompts need the checkpoint's tokenizer")
        self._tokenizer = Tokenizer.from_file(str(file))
        self._template, self._special = _chat_template(folder)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids, with begin-of-text where the tokenizer adds it."""
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: list[int]) -> str:
        """Text of ids; special tokens have none."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def token_text(self, token_id: int) -> str:
        """A token by itself, special ones as they are written."""
        return self._tokenizer.decode([token_id], skip_special_tokens=False)

    def chat_prompt(self, messages: list[dict]) -> str:
        """Messages as one text."""
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(self._template)
        return template.render(messages=messages, add_generation_prompt=True, **self._special)

    def pieces(self) -> "Pieces":
        """A decoder for one growing answer."""
        return Pieces(self)


class Pieces:
    """Ids in, one at a time; the text that each made certain out. The pieces together are the text of all ids."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._ids: list[int] = []
        self._settled = 0  # ids before this one are out; decoding starts here, with the last settled id as context
        self._context = 0

    def add(self, token_id: int) -> str:
        """The new text, empty while a character is incomplete."""
        self._ids.append(token_id)
        return self._take(hold_incomplete="yes")

    def rest(self) -> str:
        """What an answer that ends inside a character still holds."""
        return self._take(hold_incomplete="no")

    def _take(self, *, hold_incomplete: str) -> str:
        """Decode from a settled id on: some decoders write a token otherwise at the beginning than after another."""
        before = self._codec.decode(self._ids[self._context : self._settled])
        now = self._codec.decode(self._ids[self._context :])
        if hold_incomplete == "yes" and now.endswith(REPLACEMENT):
            return ""
        self._context, self._settled = self._settled, len(self._ids)
        return now[len(before) :]


def _chat_template(folder: Path) -> tuple[str, dict[str, str]]:
    """(template, special tokens that it may name)."""
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    special = {key: config.get(key) for key in ("bos_token", "eos_token", "unk_token")}
    special = {key: value.get("content") if isinstance(value, dict) else value or "" for key, value in special.items()}
    file = folder / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    return template if isinstance(template, str) else PLAIN_TEMPLATE, special
