"""Reads the texts out of the unpacked packages.

Each reader takes the folder of one unpacked package (and the work folder, for
helpers) and yields (work id, raw text). Which works are left out, and why, stands
in the reader. Cleaning is clean.py's; formats are formats.py's.
"""

import gzip
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .clean import strip_tags
from .formats import r_string_vectors, sword_blocks

Works = Iterator[tuple[str, str]]

_MILTON = (
    "areopagitica_gut",
    "paradise_lost_(no_introduction)_gut",
    "paradise_regained_gut",
    "lallegro_il_penseroso_comus_and_lycidas_gut",
    "poemata_gut",
)
_GUTENBERG = (
    "blake-poems",
    "bryant-stories",
    "burgess-busterbrown",
    "carroll-alice",
    "chesterton-ball",
    "chesterton-brown",
    "chesterton-thursday",
    "edgeworth-parents",
    "whitman-leaves",
)
_AUSTEN = {
    "EMMA": "Emma",
    "MANSFIELD": "Mansfield Park",
    "NORTHANGER": "Northanger Abbey",
    "PERSUASION": "Persuasion",
    "PRIDE": "Pride and Prejudice",
    "SENSE": "Sense and Sensibility",
}


def read_shakespeare(folder: Path, work: Path) -> Works:
    """Plays and poems in modern spelling; the First Folio twins (`_gut_f`) are left out."""
    for path in sorted(folder.glob("*/shksprdata/texts/*_gut.txt")):
        yield f"shakespeare/{path.stem.removesuffix('_gut')}", path.read_text("utf-8", "replace")
    for stem in _MILTON:
        path = next(folder.glob(f"*/miltondata/texts/{stem.replace('(', '[(]')}.txt"))
        yield f"milton/{stem.removesuffix('_gut')}", path.read_text("utf-8", "replace")
    entry = next(folder.glob("*/shksprdata/ancillary/britannica-11th.txt")).read_text("utf-8", "replace")
    yield "britannica-1911/shakespeare", re.sub(r"^(#.*|p\.\d+:.*)\n", "", entry, flags=re.M)


def read_moby_dick(folder: Path, work: Path) -> Works:
    """The novel in one file."""
    yield "melville/moby-dick", (folder / "package/data/data.txt").read_text("utf-8")


def read_sotu(folder: Path, work: Path) -> Works:
    """One work an address; the file name holds year, president and party."""
    for path in sorted((folder / "package/data").glob("[12]*.txt")):
        yield f"sotu/{path.stem}", path.read_text("utf-8")


def read_gutenberg(folder: Path, work: Path) -> Works:
    """Works that no other source has; Austen, Shakespeare, Milton, Melville, Bible come from elsewhere."""
    for stem in _GUTENBERG:
        path = folder / f"package/gutenberg/{stem}.txt"
        yield f"gutenberg/{stem}", path.read_bytes().decode("latin-1")


def read_austen(folder: Path, work: Path) -> Works:
    """Six novels, each one character vector of lines in an R lazy-load database."""
    database = next(folder.glob("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"))
    for lines in r_string_vectors(database.read_bytes()):
        head = " ".join(lines[:10]).upper()
        title = next((name for key, name in _AUSTEN.items() if key in head), None)
        if title and len(lines) > 1000:
            yield f"austen/{title}", "\n".join(lines)


def read_opticks(folder: Path, work: Path) -> Works:
    """Test data of Go's compressors, without the transcribers' frame."""
    text = next(folder.glob("usr/share/go-*/src/testdata/Isaac.Newton-Opticks.txt")).read_text("utf-8")
    yield "newton/opticks", text[text.index("OPTICKS:") :].split("*** END OF")[0]


def read_devil(folder: Path, work: Path) -> Works:
    """A dictd database; the text before the preface is about the edition."""
    text = gzip.decompress((folder / "usr/share/dictd/devil.dict.dz").read_bytes()).decode("utf-8", "replace")
    yield "bierce/devils-dictionary", text[text.index("PREFACE") :]


def read_jargon(folder: Path, work: Path) -> Works:
    """A dictd database; braces mark cross references."""
    text = gzip.decompress((folder / "usr/share/dictd/jargon.dict.dz").read_bytes()).decode("utf-8", "replace")
    text = re.sub(r"\{\s*([^}]*?)\s*\}", lambda m: " ".join(m[1].split()), text)
    yield "jargon-file", re.sub(r"^ {4}", "", text, flags=re.M)


def read_kjv(folder: Path, work: Path) -> Works:
    """Verses as the `bible` program prints them (`Ge1:1 In the ...`), a chapter a paragraph."""
    program = work / "unpacked/bible-kjv/usr/bin/bible"
    verses = subprocess.run(
        [program, "-f", "-p", folder / "usr/lib", "gen1:1-rev22:21"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    text = re.sub(r"^(\S+?)(\d+):(\d+) ", lambda m: ("\n" if m[3] == "1" else "") + f"{m[3]} ", verses, flags=re.M)
    yield "bible/king-james", text


def read_web(folder: Path, work: Path) -> Works:
    """A SWORD zText module in OSIS markup."""
    yield from _sword_work(folder, "ztext/engWEB2015eb", "bz", "bible/world-english")


def read_treasury(folder: Path, work: Path) -> Works:
    """A SWORD commentary module."""
    yield from _sword_work(folder, "zcom/tdavid", "cz", "spurgeon/treasury-of-david")


def read_henry(folder: Path, work: Path) -> Works:
    """A SWORD commentary module."""
    yield from _sword_work(folder, "zcom/mhcc", "bz", "henry/concise-commentary")


def read_scofield(folder: Path, work: Path) -> Works:
    """A SWORD commentary module."""
    yield from _sword_work(folder, "zcom/scofield", "bz", "scofield/reference-notes")


def _sword_work(folder: Path, module: str, kind: str, work_id: str) -> Works:
    (base,) = folder.glob(f"usr/share/sword/modules/*/{module}")
    blocks = [block for part in ("ot", "nt") for block in sword_blocks(base / part, kind)]
    yield work_id, strip_tags("\n\n".join(blocks))
