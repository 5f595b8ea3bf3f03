"""Trains the byte-level BPE tokenizer and encodes the splits.

    python -m fp4moe.pocket.training.tokenizer --work WORK --out DATA

In: WORK/*.jsonl of corpus.py. Out: DATA/tokenizer.json and its two companions,
and WORK/tokens/<split>.<group>.npy (uint16, works as `text </s> <s> text ...`).
Every byte string has a token sequence, so encoding loses nothing.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCAB_SIZE = 2048
UNK, BOS, EOS = "<unk>", "<s>", "</s>"
BOS_ID, EOS_ID = 1, 2
_MAX_TRAIN_CHARS = {"commentary": 4_000_000, "scripture": 2_000_000}  # keep the sampling mix


def read_rows(path: Path) -> list[dict]:
    """Rows of one split."""
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def train_tokenizer(rows: list[dict]) -> Tokenizer:
    """Byte-level BPE over the training rows; ids 0, 1, 2 are <unk>, <s>, </s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[UNK, BOS, EOS],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = (row["text"][: _MAX_TRAIN_CHARS.get(row["group"])] for row in rows)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, BOS_ID)]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """The three files that transformers.AutoTokenizer reads."""
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": UNK, "pad_token": EOS}
    config = {
        **special,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": True,
        "add_eos_token": False,
    }
    tokenizer.save(str(out / "tokenizer.json"))
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        (out / name).write_text(json.dumps(content, indent=1) + "\n")


def encode_group(tokenizer: Tokenizer, rows: list[dict]) -> np.ndarray:
    """One stream: the works of a group, each closed by </s>, the next opened by <s>."""
    ids: list[int] = []
    for row in rows:
        ids += [BOS_ID, *tokenizer.encode(row["text"], add_special_tokens=False).ids, EOS_ID]
    return np.asarray(ids[1:], dtype=np.uint16)  # the trainer puts <s> before every window itself


def encode_splits(tokenizer: Tokenizer, work: Path) -> None:
    """WORK/tokens/<split>.<group>.npy and the byte counts in WORK/tokens/bytes.json."""
    folder, num_bytes = work / "tokens", {}
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation", "heldout"):
        rows = read_rows(work / f"{split}.jsonl")
        for group in sorted({row["group"] for row in rows}):
            members = [row for row in rows if row["group"] == group]
            stream = encode_group(tokenizer, members)
            np.save(folder / f"{split}.{group}.npy", stream)
            num_bytes[f"{split}.{group}"] = sum(len(row["text"].encode()) for row in members)
            print(
                split,
                group,
                len(stream),
                "tokens",
                num_bytes[f"{split}.{group}"] / len(stream),
                "bytes per token",
            )
    (folder / "bytes.json").write_text(json.dumps(num_bytes) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = train_tokenizer(read_rows(args.work / "train.jsonl"))
    save_tokenizer(tokenizer, args.out)
    encode_splits(tokenizer, args.work)


if __name__ == "__main__":
    main()
