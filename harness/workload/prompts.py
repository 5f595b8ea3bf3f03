"""Token ids of prompts: windows of a text at seeded places, shared prefixes, and the shared blocks of a Mooncake trace.

Without a text (random weights) tokens are drawn evenly from the vocabulary. Ids below FIRST_DRAWN are left out: they
are the special tokens of most vocabularies.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.scenario.source import SharedPrefixSpec
from harness.workload.lengths import zipf_weights

FIRST_DRAWN = 3
BLOCK_TOKENS = 512
"""Prompt tokens that one of Mooncake's hash ids stands for."""


class PromptMaker:
    """Makes prompts out of one text with one seed."""

    def __init__(self, text_ids: Sequence[int] | None, vocab_size: int, seed: Sequence[int]) -> None:
        self._text = None if text_ids is None else np.asarray(text_ids, dtype=np.int64)
        self._vocab_size, self._seed = vocab_size, list(seed)
        self._block = lru_cache(maxsize=256)(self._make_block)

    def window(self, length: int, generator: np.random.Generator) -> list[int]:
        """`length` tokens from a seeded place of the text; a text that is too short is repeated."""
        if self._text is None:
            return generator.integers(FIRST_DRAWN, self._vocab_size, size=length).tolist()
        size = len(self._text)
        if size <= length:
            return np.resize(self._text, length).tolist()
        start = int(generator.integers(0, size - length))
        return self._text[start : start + length].tolist()

    def blocks(self, length: int, hash_ids: Sequence[int]) -> list[int]:
        """`length` tokens made of the blocks that the hash ids name; what they do not cover follows the last one."""
        ids: list[int] = []
        for hash_id in (*hash_ids, *range(-(-length // BLOCK_TOKENS) - len(hash_ids))):
            if len(ids) >= length:
                break
            ids += self._block(hash_id)
        return ids[:length]

    def _make_block(self, hash_id: int) -> tuple[int, ...]:
        """The same tokens for the same hash id, whichever request asks."""
        generator = np.random.default_rng([*self._seed, BLOCK_TOKENS, abs(hash_id), hash_id < 0])
        return tuple(self.window(BLOCK_TOKENS, generator))


def shared_prefixes(spec: SharedPrefixSpec, count: int, maker: PromptMaker, seed: Sequence[int]) -> list[list[int]]:
    """The prefix of each of `count` requests."""
    generator = np.random.default_rng([*seed, 1])
    prefixes = [maker.window(spec.tokens, generator) for _ in range(spec.num_prefixes)]
    weights = zipf_weights(spec.num_prefixes, spec.zipf_exponent)
    return [prefixes[index] for index in generator.choice(spec.num_prefixes, size=count, p=weights)]
