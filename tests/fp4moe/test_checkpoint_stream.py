"""Tensors read ahead: the same bits as mapped ones in any order, bounded, errors by file and tensor, threads ended."""

import threading

import pytest
import torch

from fp4moe.checkpoint import LAYOUTS, export, open_checkpoint
from fp4moe.checkpoint import stream as module
from fp4moe.checkpoint.stream import StreamedShards
from fp4moe.errors import CheckpointError
from fp4moe.precision import Precision
from fp4moe.runtime import load_model
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.load import reading_order
from tiny_checkpoints import EXPERT, edit_tensors, same_bytes, write

CPU = torch.device("cpu")
PRECISIONS = {
    "bf16": Precision("bf16"),
    "modelopt-nvfp4": Precision("nvfp4"),
    "ct-nvfp4": Precision("nvfp4"),
    "ct-mxfp4": Precision("mxfp4"),
    "ct-fp8": Precision("fp8"),
}


@pytest.fixture(params=("bf16", *LAYOUTS))
def stored(request, tmp_path):
    """(layout, a folder of several shards in it)."""
    folder = write(tmp_path / "bf16", max_shard_bytes=100_000)
    if request.param != "bf16":
        folder = export(folder, tmp_path / "out", request.param, max_shard_bytes=40_000)
    assert len(list(folder.glob("*.safetensors"))) > 2
    return request.param, folder


def streamed(folder, names=None):
    shards = open_checkpoint(folder).shards
    return StreamedShards(shards, shards.tensors if names is None else names, CPU)


@pytest.mark.parametrize("block_bytes", [pytest.param(1000, id="tensors-of-several-blocks"), pytest.param(2**23, id="of-one")])
def test_every_tensor_has_the_bits_of_the_mapped_one(stored, monkeypatch, block_bytes):
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    _, folder = stored
    mapped, shards = open_checkpoint(folder).shards, streamed(folder)
    assert all(same_bytes(shards.read(name), mapped.read(name)) for name in mapped.tensors)
    assert shards.out_of_turn == 0
    shards.close()


def test_a_model_is_the_one_that_an_ordinary_load_gives_and_is_read_in_turn(stored, monkeypatch):
    layout, folder = stored
    made = []
    start = StreamedShards.__init__
    monkeypatch.setattr(StreamedShards, "__init__", lambda self, *args: (made.append(self), start(self, *args))[1])
    fast = load_model(folder, PRECISIONS[layout])
    assert len(made) == 1 and made[0].out_of_turn == 0 and not made[0]._announced, "all was announced, in the order of reading"
    ordinary = load_model(open_checkpoint(folder), PRECISIONS[layout])
    assert len(made) == 1 and fast.weights_sha256 == ordinary.weights_sha256
    for (name, ours), (_, theirs) in zip(fast.weights.named_tensors(), ordinary.weights.named_tensors(), strict=True):
        assert same_bytes(ours, theirs), name


def test_bf16_quantized_while_loading_is_the_same_too(tmp_path):
    folder = write(tmp_path / "m", max_shard_bytes=100_000)
    fast, ordinary = load_model(folder, Precision("nvfp4")), load_model(open_checkpoint(folder), Precision("nvfp4"))
    assert fast.weights_sha256 == ordinary.weights_sha256


def test_another_order_than_announced_is_right(tmp_path):
    folder = write(tmp_path / "m")
    mapped = open_checkpoint(folder).shards
    shards = streamed(folder)
    assert all(same_bytes(shards.read(name), mapped.read(name)) for name in reversed(list(mapped.tensors)))
    assert shards.out_of_turn > 0 and not shards._announced and not shards._under_way
    assert same_bytes(shards.read(f"{EXPERT}.weight"), mapped.read(f"{EXPERT}.weight")), "a second time"
    shards.close()


def test_what_is_read_ahead_is_at_most_a_quarter_of_a_file_and_a_tensor(tmp_path):
    folder = write(tmp_path / "m", max_shard_bytes=100_000)
    shards = streamed(folder)
    sizes = {name: stored.num_bytes for name, stored in shards.tensors.items()}
    limit = max(file.stat().st_size for file in folder.glob("*.safetensors")) // 4 + max(sizes.values())
    for name in shards.tensors:
        shards.read(name)
        assert shards._ahead_bytes == sum(sizes[one] for one in shards._under_way) <= limit
    shards.close()


def test_a_dtype_that_no_checkpoint_needs_is_read_the_ordinary_way(tmp_path):
    folder = edit_tensors(write(tmp_path / "m"), lambda tensors: tensors.update(extra=torch.arange(5)))
    shards = streamed(folder)
    assert torch.equal(shards.read("extra"), torch.arange(5))
    shards.close()


def test_order_of_a_tied_head_has_no_head():
    sizes = dict(vocab_size=8, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=8)
    orders = [list(reading_order(MixtralConfig(**sizes, num_experts=1, top_k=1, tie_word_embeddings=t))) for t in (True, False)]
    assert orders[0] + ["lm_head"] == orders[1]


def threads_reading() -> int:
    return sum(thread.name.startswith("checkpoint reader") for thread in threading.enumerate())


def test_a_file_cut_after_it_was_opened_is_named_with_the_tensor_and_no_thread_is_left(tmp_path):
    folder = write(tmp_path / "m")
    file = folder / "model.safetensors"
    checkpoint = open_checkpoint(folder)
    cut = file.stat().st_size // 2
    with file.open("r+b") as opened:
        opened.truncate(cut)
    with (
        pytest.raises(CheckpointError, match=rf"model.safetensors: model\..*: cannot be read .* {cut}, .*; download"),
        checkpoint.streamed(CPU) as reading,
    ):
        for name in reading.sizes.plain_shapes():
            reading.tensor(name)
        for layer, expert in reading.sizes.experts():
            reading.expert(layer, expert, "w1")
    assert threads_reading() == 0


def test_a_disk_that_fails_is_a_checkpoint_error(tmp_path, monkeypatch):
    def fails(*args):
        raise OSError(5, "Input/output error")

    folder = write(tmp_path / "m")
    monkeypatch.setattr(module.os, "preadv", fails)
    with pytest.raises(CheckpointError, match="embed_tokens.weight: cannot be read .*Input/output error"):
        load_model(folder, Precision("nvfp4"))
    assert threads_reading() == 0


class FakeStream:
    """A stream and its events that do everything at once, on a CPU."""

    def __init__(self, *args, **named) -> None:
        self.waited = 0

    def record(self) -> None:
        self.waited -= 1

    def synchronize(self) -> None:
        self.waited += 1

    def __enter__(self) -> None: ...

    def __exit__(self, *error) -> None: ...


def test_blocks_pass_through_pinned_memory_and_are_waited_for(tmp_path, monkeypatch):
    folder = write(tmp_path / "m", max_shard_bytes=100_000)
    mapped, real_empty, pinned, events, recorded = open_checkpoint(folder).shards, torch.empty, [], [], []

    def empty(size, *, dtype, device="cpu", pin_memory=False):
        made = real_empty(size, dtype=dtype)
        if pin_memory:
            pinned.append(made)
        return made

    def event(blocking):
        events.append(FakeStream())
        return events[-1]

    for name, fake in (("Stream", FakeStream), ("stream", lambda stream: stream), ("Event", event)):
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "computing")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: recorded.append("given back"))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: recorded.append(stream))
    monkeypatch.setattr(module.torch, "empty", empty)
    monkeypatch.setattr(module, "BLOCK_BYTES", 1000)
    shards = StreamedShards(mapped, mapped.tensors, torch.device("cuda:0"))
    assert all(same_bytes(shards.read(name), mapped.read(name)) for name in mapped.tensors)
    shards.close()
    assert [block.numel() for block in pinned] == [1000] * module.num_readers(), "all the host memory there is"
    assert len(events) == module.num_readers() and not any(event.waited for event in events)
    assert recorded == ["computing"] * len(mapped.tensors) + ["given back"]
