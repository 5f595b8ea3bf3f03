"""Does the held-out text occur in the training text?

A shingle is 13 words in a row (lower case, punctuation dropped). The corpus
drops every training paragraph that shares one with a held-out or validation work;
this program then reports what is left, also for 50-character shingles.

    python -m fp4moe.pocket.training.contamination --work WORK
"""

import argparse
import json
import re
from pathlib import Path

NUM_WORDS = 13
NUM_CHARS = 50


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return re.findall(r"[a-z0-9']+", text.lower())


def shingles(text: str, num_words: int = NUM_WORDS) -> set[int]:
    """Hashes of all runs of `num_words` words."""
    words = words_of(text)
    return {hash(tuple(words[i : i + num_words])) for i in range(len(words) - num_words + 1)}


def char_shingles(text: str, num_chars: int = NUM_CHARS) -> set[int]:
    """Hashes of all runs of `num_chars` characters of the words joined by single spaces."""
    joined = " ".join(words_of(text))
    return {hash(joined[i : i + num_chars]) for i in range(len(joined) - num_chars + 1)}


def drop_shared_paragraphs(row: dict, protected: set[int]) -> int:
    """Removes from row["text"] the paragraphs that share a shingle; returns how many."""
    pieces = row["text"].rstrip("\n").split("\n\n") if row["group"] != "speeches" else _sentences(row["text"])
    joint = "\n\n" if row["group"] != "speeches" else " "
    kept = [piece for piece in pieces if shingles(piece).isdisjoint(protected)]
    row["text"] = joint.join(kept).rstrip("\n") + "\n"
    return len(pieces) - len(kept)


def _sentences(text: str) -> list[str]:
    """An address is one paragraph, so it loses single sentences."""
    return re.split(r"(?<=[.?!]) ", text)


def shared_fraction(heldout: str, train_texts: list[str], shingle) -> float:
    """Share of the held-out shingles that occur in any training text."""
    wanted = shingle(heldout)
    found = set()
    for text in train_texts:
        found |= shingle(text) & wanted
    return len(found) / len(wanted)


def main() -> None:
    """Prints and stores WORK/contamination.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    rows = {name: [json.loads(line) for line in (work / f"{name}.jsonl").open()] for name in ("train", "heldout")}
    heldout = "".join(row["text"] for row in rows["heldout"])
    train = [row["text"] for row in rows["train"]]
    report = {
        "words13_shared_fraction": shared_fraction(heldout, train, shingles),
        "chars50_shared_fraction": shared_fraction(heldout, train, char_shingles),
    }
    print(report)
    (work / "contamination.json").write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
