"""Two binary containers: SWORD compressed modules and R lazy-load databases.

Sources: CrossWire SWORD, zText/zCom drivers (`.?zs` rows are offset, packed size,
size, little endian); R Internals, "Serialization Formats" (XDR, version 2 or 3).
"""

import struct
import zlib
from pathlib import Path

_STRSXP, _CHARSXP = 16, 9
_NA_LENGTH = 0xFFFFFFFF


def sword_blocks(base: Path, kind: str) -> list[str]:
    """Texts of the blocks of one testament; empty if the module lacks it.

    `base` is the path without suffix (`.../ot`), `kind` is "bz" (a block a book)
    or "cz" (a block a chapter).
    """
    index, packed = base.with_suffix(f".{kind}s"), base.with_suffix(f".{kind}z")
    if not index.exists() or not packed.exists():
        return []
    data = packed.read_bytes()
    rows = struct.iter_unpack("<III", index.read_bytes())
    return [zlib.decompress(data[start : start + size]).decode("utf-8", "replace") for start, size, _ in rows if size]


def r_string_vectors(database: bytes) -> list[list[str]]:
    """The character vectors among the objects of an `.rdb` file, in file order."""
    vectors, start = [], 0
    while start < len(database):
        stream = zlib.decompressobj()  # 4 bytes of unpacked size come first
        obj = stream.decompress(database[start + 4 :])
        start = len(database) - len(stream.unused_data)
        vector = _string_vector(obj)
        if vector is not None:
            vectors.append(vector)
    return vectors


def _string_vector(obj: bytes) -> list[str] | None:
    """Lines of one serialized object, or None when it is not a character vector."""
    version = struct.unpack_from(">I", obj, 2)[0]
    at = 14
    if version == 3:
        at += 4 + struct.unpack_from(">I", obj, at)[0]
    flags, count = struct.unpack_from(">II", obj, at)
    if flags & 0xFF != _STRSXP:
        return None
    at, lines = at + 8, []
    for _ in range(count):
        flags, size = struct.unpack_from(">II", obj, at)
        assert flags & 0xFF == _CHARSXP
        size = 0 if size == _NA_LENGTH else size
        lines.append(obj[at + 8 : at + 8 + size].decode("utf-8", "replace"))
        at += 8 + size
    return lines
