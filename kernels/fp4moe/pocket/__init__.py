"""`pocket-mixtral`: the small trained Mixtral that ships inside the package.

Out: the folder of its Hugging Face checkpoint and the held-out text it was never
trained on. Nothing here imports a framework; training/ has how it was made.
"""

from pathlib import Path

_DATA = Path(__file__).resolve().parent / "data"


def checkpoint_dir() -> Path:
    """Folder with config.json, model.safetensors (BF16) and the tokenizer."""
    return _DATA


def heldout_path() -> Path:
    """UTF-8 text of whole works in no training or validation split; heldout.json describes it."""
    return _DATA / "heldout.txt"


def heldout_text() -> str:
    """The held-out text, line ends as in the file."""
    return heldout_path().read_bytes().decode("utf-8")
