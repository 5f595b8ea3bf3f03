"""ShareGPT conversations: the first turn as the prompt, the second for the length of the answer.

In: the json file, a tokenizer's `encode`. Out: conversations whose prompt is short enough. What has fewer than two turns,
or an empty one, is left out, as other tools do; a file that is not of the format is refused.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import ScenarioError
from harness.scenario.source import ShareGptSource

MIN_TOKENS = 2
"""Of an answer, so that a time per output token exists; shorter ones are left out."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A prompt as text and ids, and the tokens of its answer."""

    prompt_text: str
    prompt_ids: Sequence[int]
    output_tokens: int


def choose_conversations(
    source: ShareGptSource, count: int, generator: np.random.Generator, encode: Callable[[str], Sequence[int]] | None
) -> list[Conversation]:
    """`count` different conversations in a seeded order. Raises ScenarioError where there are not so many."""
    path = Path(source.path)
    if encode is None:
        rule = "conversations need the model's tokenizer, and this model has none; give a checkpoint by `path`"
        raise ScenarioError([f"{path}: {rule}"])
    turns = _first_turns(path)
    chosen: list[Conversation] = []
    for index in generator.permutation(len(turns)):
        if len(chosen) == count:
            break
        prompt, answer = turns[index]
        ids, num_output = encode(prompt), len(encode(answer))
        if 1 <= len(ids) <= source.max_prompt_tokens and num_output >= MIN_TOKENS:
            chosen.append(Conversation(prompt, ids, min(num_output, source.max_output_tokens)))
    if len(chosen) < count:
        found = f"{len(chosen)} of {len(turns)} conversations with a prompt of at most {source.max_prompt_tokens} tokens"
        raise ScenarioError([f"{path}: has {found}; lower num_requests (got {count})"])
    return chosen


def _first_turns(path: Path) -> list[tuple[str, str]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScenarioError([f"{path}: cannot be read as ShareGPT json ({error}); is the file cut off?"]) from None
    if not isinstance(data, list):
        raise ScenarioError([f"{path}: must be a list of conversations (got {type(data).__name__})"])
    turns = []
    for index, item in enumerate(data):
        talk = item.get("conversations") if isinstance(item, dict) else None
        if not isinstance(talk, list) or not all(isinstance(t, dict) and isinstance(t.get("value"), str) for t in talk):
            raise ScenarioError([f"{path}: [{index}]: must be {{'conversations': [{{'from', 'value'}}, ...]}}"])
        if len(talk) >= 2 and talk[0]["value"].strip() and talk[1]["value"].strip():
            turns.append((talk[0]["value"], talk[1]["value"]))
    return turns
