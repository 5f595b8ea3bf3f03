"""Brings every text to one form: UTF-8, LF, ASCII quotes and dashes, one paragraph a line.

Hard-wrapped prose is joined (a paragraph whose lines, but the last, are all
50 characters or longer); verse, speech prefixes and stage directions keep their lines.
"""

import html
import re
import unicodedata

WRAP_CHARS = 50

_PUNCTUATION = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201a": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u201e": '"',
        "\u2013": "-",
        "\u2014": "--",
        "\u2015": "--",
        "\u2026": "...",
        "\u00a0": " ",
        "\ufeff": "",
        "\u2009": " ",
        "\u202f": " ",
        "\u00ad": "",
        "\u200b": "",
        "\u2212": "-",
        "\u2032": "'",
    }
)


def strip_tags(markup: str) -> str:
    """Plain text of OSIS/TEI markup: notes dropped, block ends become paragraph breaks."""
    markup = re.sub(r"<note\b.*?</note>", "", markup, flags=re.S)
    markup = re.sub(
        r"</title>|<title\b[^>]*>|<div [^>]*type=\"(x-p|paragraph)\"[^>]*>|<lb\b[^>]*>|</row>|</item>"
        r"|</lg>|</l>|<l [^>]*eID[^>]*>|<chapter [^>]*sID[^>]*>",
        "\n\n",
        markup,
    )
    text = html.unescape(re.sub(r"<[^>]+>", " ", markup))
    return re.sub(r" +([,.;:?!)])", r"\1", re.sub(r"[ \t]+", " ", text))


def unwrap(paragraph: str) -> str:
    """Joins the lines of a hard-wrapped prose paragraph."""
    lines = [line.strip() for line in paragraph.split("\n")]
    if all(len(line) >= WRAP_CHARS for line in lines[:-1]):
        return " ".join(lines)
    return "\n".join(line.rstrip() for line in paragraph.split("\n"))


def normalise(text: str) -> str:
    """One cleaned text; ends in exactly one newline."""
    text = unicodedata.normalize("NFC", text).translate(_PUNCTUATION)
    text = text.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    text = re.sub(r"\b_|_\b|(?<=\W)_|_(?=\W)", "", text)
    text = re.sub(r"[\x00-\x09\x0b-\x1f\x7f]", "", text)
    text = re.sub(r"[ ]+$", "", text, flags=re.M)
    paragraphs = [unwrap(p) for p in re.split(r"\n{2,}", text.strip("\n")) if p.strip()]
    return "\n\n".join(paragraphs) + "\n"
