"""Unquantized Mixtral folders: sharded or not, tied or not, in each float dtype, from transformers itself."""

import pytest
import torch

from fp4moe.checkpoint import open_checkpoint, read_hf, write_random
from fp4moe.checkpoint.expected import Sizes, expert_module
from fp4moe.errors import CheckpointError
from fp4moe.layouts import QuantizedTensor
from fp4moe.pocket import checkpoint_dir
from fp4moe.quantize import dequantize
from tiny_checkpoints import CONFIG, MATRICES, PLACES, edit_tensors, same_bytes, write


def test_sharding_does_not_show(tmp_path):
    single = open_checkpoint(write(tmp_path / "single"))
    sharded = open_checkpoint(write(tmp_path / "sharded", max_shard_bytes=100_000))
    assert len(list((tmp_path / "sharded").glob("model-*-of-*.safetensors"))) > 3
    assert single.names() == sharded.names() and single.sha256() == sharded.sha256()
    for name in single.sizes.plain_shapes():
        assert same_bytes(single.tensor(name), sharded.tensor(name))
    sharded.validate()


def test_hash_depends_on_the_weights_alone(tmp_path):
    first = open_checkpoint(write(tmp_path / "a")).sha256()
    assert open_checkpoint(write(tmp_path / "b")).sha256() == first
    other = write_random(tmp_path / "c", CONFIG, seed=1)
    assert open_checkpoint(other).sha256() != first


def test_opening_reads_no_tensor(tmp_path, monkeypatch):
    folder = write(tmp_path / "m")
    monkeypatch.setattr("fp4moe.checkpoint.shards.Shards.read", lambda *_: pytest.fail("read a tensor"))
    open_checkpoint(folder).validate_headers()


def test_config_and_storage(tmp_path):
    checkpoint = open_checkpoint(str(write(tmp_path / "m")))
    assert checkpoint.config == CONFIG and checkpoint.storage == "bf16"


def test_shapes_of_everything(tmp_path):
    checkpoint = open_checkpoint(write(tmp_path / "m"))
    assert checkpoint.tensor("model.embed_tokens.weight").shape == (80, 64)
    assert checkpoint.tensor("model.layers.1.self_attn.q_proj.weight").shape == (96, 64)
    assert checkpoint.tensor("model.layers.1.self_attn.k_proj.weight").shape == (48, 64)
    assert checkpoint.tensor("model.layers.1.self_attn.o_proj.weight").shape == (64, 96)
    assert checkpoint.tensor("model.layers.0.block_sparse_moe.gate.weight").shape == (4, 64)
    assert [checkpoint.expert(1, 3, m).shape for m in MATRICES] == [(96, 64), (64, 96), (96, 64)]


def test_experts_are_the_stored_bf16(tmp_path):
    checkpoint = open_checkpoint(write(tmp_path / "m"))
    q = checkpoint.expert(1, 2, "w2")
    assert (q.format, q.method) == ("bf16", "none")
    assert same_bytes(q.codes, checkpoint.shards.read(f"{expert_module(1, 2, 'w2')}.weight"))


def test_layer_experts_are_gate_above_up(tmp_path):
    checkpoint = open_checkpoint(write(tmp_path / "m"))
    gate_up, down = checkpoint.layer_experts(1)
    assert gate_up.shape == (4, 192, 64) and down.shape == (4, 64, 96)
    for expert in range(4):
        assert torch.equal(gate_up.codes[expert, :96], checkpoint.expert(1, expert, "w1").codes)
        assert torch.equal(gate_up.codes[expert, 96:], checkpoint.expert(1, expert, "w3").codes)
        assert torch.equal(down.codes[expert], checkpoint.expert(1, expert, "w2").codes)


def test_read_hf_yields_every_stored_tensor_once(tmp_path):
    folder = write(tmp_path / "m")
    values = dict(read_hf(folder))
    assert sorted(values) == list(open_checkpoint(folder).names())
    assert sum(isinstance(v, QuantizedTensor) for v in values.values()) == len(PLACES) * 3


def test_tied_checkpoint_needs_no_head(tmp_path):
    checkpoint = open_checkpoint(write(tmp_path / "m", tie_word_embeddings=True))
    checkpoint.validate()
    assert "lm_head.weight" not in checkpoint.names()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_float_dtypes_are_read(tmp_path, dtype):
    def convert(tensors):
        for name in tensors:
            tensors[name] = tensors[name].to(dtype)

    folder = edit_tensors(write(tmp_path / "m"), convert)
    checkpoint = open_checkpoint(folder)
    checkpoint.validate()
    assert checkpoint.tensor("model.norm.weight").dtype == dtype
    assert checkpoint.raw_expert(0, 0, "w1").dtype == dtype
    assert checkpoint.expert(0, 0, "w1").codes.dtype == torch.bfloat16


def test_extra_tensors_are_left_alone(tmp_path):
    def add(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(12)

    folder = edit_tensors(write(tmp_path / "m"), add)
    open_checkpoint(folder).validate()


def test_what_transformers_saves_is_what_is_expected(tmp_path):
    from transformers import MixtralConfig, MixtralForCausalLM

    config = {k: v for k, v in CONFIG.items() if k not in ("model_type", "architectures")}
    model = MixtralForCausalLM(MixtralConfig(**config)).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "m")
    checkpoint = open_checkpoint(tmp_path / "m")
    checkpoint.validate()
    expected = set(checkpoint.sizes.plain_shapes())
    expected |= {f"{expert_module(layer, expert, m)}.weight" for layer, expert in PLACES for m in MATRICES}
    assert set(checkpoint.names()) == expected
    fused = dict(model.state_dict())["model.layers.1.mlp.experts.gate_up_proj"]  # [E, 2F, D] in transformers 5
    gate_up, _ = checkpoint.layer_experts(1)
    assert torch.equal(gate_up.codes, fused)


def test_the_shipped_model_is_a_valid_checkpoint():
    checkpoint = open_checkpoint(checkpoint_dir())
    checkpoint.validate()
    gate_up, down = checkpoint.layer_experts(0)
    assert gate_up.shape == (8, 256, 256) and down.shape == (8, 256, 128)
    assert dequantize(gate_up).abs().max() > 0


def test_defaults_of_config():
    config = {k: v for k, v in CONFIG.items() if k not in ("head_dim", "num_key_value_heads", "tie_word_embeddings")}
    sizes = Sizes.from_config(config, "config.json")
    assert (sizes.head_dim, sizes.num_kv_heads, sizes.is_tied) == (16, 4, False)


def test_write_random_keeps_what_is_there(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes").write_text("mine")
    with pytest.raises(CheckpointError, match="must not exist or be an empty folder"):
        write_random(tmp_path / "m", CONFIG, seed=0)
