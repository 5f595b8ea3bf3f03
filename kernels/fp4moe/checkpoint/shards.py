"""The safetensors files of a checkpoint folder, one or many, read one tensor at a time.

In: a folder with model.safetensors, or model.safetensors.index.json and the shards it names. Out: names,
dtypes, shapes and places without reading data, and single tensors, mapped from the file; stream.py reads many
ahead. A file that is missing, cut short or not safetensors is a CheckpointError with its path. What the names
mean is not known here.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fp4moe.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies and what it is; `dtype` as safetensors spells it ("BF16", "F8_E4M3", "U8").

    begin, num_bytes: where its bytes lie in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Shards:
    """Opened files and the tensors in them."""

    folder: Path
    tensors: dict[str, StoredTensor]
    handles: dict[Path, safe_open]

    @classmethod
    def open(cls, folder: Path) -> "Shards":
        """Read every header; no tensor data."""
        handles, tensors = {}, {}
        for file, wanted in _files(folder).items():
            handles[file] = handle = _open(file)
            present = handle.keys()
            missing = sorted(set(wanted or ()) - set(present))
            if missing:
                raise CheckpointError(
                    f"{file}: {missing[0]}: missing, but {INDEX} places it here "
                    f"({len(missing)} such tensors); download the file again"
                )
            tensors |= _stored(file)
        return cls(folder, tensors, handles)

    def find(self, name: str) -> StoredTensor:
        """The tensor called `name`, or a CheckpointError."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.folder}: {name}: missing ({len(self.tensors)} other tensors are present)")
        return self.tensors[name]

    def read(self, name: str) -> Tensor:
        """The data of one tensor."""
        file = self.find(name).file
        try:
            return self.handles[file].get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"{file}: {name}: cannot be read ({error}); download the file again") from error

    def metadata(self, name: str) -> dict[str, str]:
        """The free-form metadata of the file that holds `name`."""
        return self.handles[self.find(name).file].metadata() or {}


def read_json(file: Path) -> dict:
    """A JSON object; CheckpointError with file and line otherwise."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: no such file; a checkpoint folder has one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{file}:{error.lineno}: must be JSON ({error.msg})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: must be a JSON object (got {type(value).__name__})")
    return value


def _files(folder: Path) -> dict[Path, list[str] | None]:
    """Each file and the tensors that the index places in it (None: no index)."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give one with config.json and {SINGLE}")
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{folder / INDEX}: weight_map: must map tensors to files (got {weight_map!r})")
        files: dict[Path, list[str] | None] = {}
        for name, file in weight_map.items():
            files.setdefault(folder / file, []).append(name)
        return files
    if (folder / SINGLE).is_file():
        return {folder / SINGLE: None}
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
    raise CheckpointError(f"{folder}: must hold {SINGLE} or {INDEX} (found {found}); convert the weights to safetensors")


def _stored(file: Path) -> dict[str, StoredTensor]:
    """From the header that safetensors has found right: its length in 8 bytes, then JSON; the data follows."""
    with file.open("rb") as opened:
        header_bytes = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(header_bytes))
    header.pop("__metadata__", None)
    stored = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        stored[name] = StoredTensor(file, entry["dtype"], tuple(entry["shape"]), 8 + header_bytes + begin, end - begin)
    return stored


def _open(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="pt")
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: no such file, but {INDEX} names it; download it") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: is cut short or not safetensors ({error}; {file.stat().st_size} bytes); download it again"
        ) from error
