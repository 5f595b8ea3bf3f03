"""config.json as transformers 4 and 5 write it, and what is refused."""

import json

import pytest

from fp4moe.errors import CheckpointError
from fp4moe.runtime import MIXTRAL_8X7B, MixtralConfig
from fp4moe.runtime.names import expert_shape, tensor_shape

RAW = {
    "model_type": "mixtral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 32768,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def without(key):
    return {name: value for name, value in RAW.items() if name != key}


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(RAW, id="transformers-4"),
        pytest.param(without("rope_theta") | {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, id="5"),
        pytest.param(RAW | {"head_dim": None, "sliding_window": None}, id="nulls"),
        pytest.param(RAW | {"eos_token_id": [2]}, id="list-of-eos"),
    ],
)
def test_spellings_of_one_config(raw, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert MixtralConfig.from_json(tmp_path) == MIXTRAL_8X7B
    assert MixtralConfig.from_json(tmp_path / "config.json") == MIXTRAL_8X7B


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(RAW | {"sliding_window": 4096}, "sliding_window: must be None .got 4096", id="sliding-window"),
        pytest.param(RAW | {"model_type": "qwen3_moe"}, "model_type: must be 'mixtral'", id="another-architecture"),
        pytest.param(RAW | {"hidden_act": "gelu"}, "hidden_act: must be 'silu'", id="another-activation"),
        pytest.param(
            RAW | {"rope_parameters": {"rope_type": "yarn"}},
            "rope_type: must be 'default' .got 'yarn'",
            id="scaled-rope",
        ),
        pytest.param(without("num_local_experts"), "config: num_local_experts: missing", id="missing-key"),
        pytest.param(RAW | {"num_experts_per_tok": 9}, "must satisfy 1 <= top_k <= num_experts", id="more-than-all"),
        pytest.param(RAW | {"num_key_value_heads": 5}, "must be a multiple of num_kv_heads=5", id="uneven-groups"),
        pytest.param(RAW | {"head_dim": 63}, "head_dim: must be even", id="odd-head"),
        pytest.param(RAW | {"hidden_size": 0}, "hidden_size: must be at least 1", id="empty"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(raw, message):
    with pytest.raises(CheckpointError, match=message):
        MixtralConfig.from_dict(raw)


def test_a_missing_and_a_broken_file_say_where(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        MixtralConfig.from_json(tmp_path)
    (tmp_path / "config.json").write_text("{\n1")
    with pytest.raises(CheckpointError, match=r"config.json:2: must be JSON"):
        MixtralConfig.from_json(tmp_path)


def test_shapes_of_mixtral_8x7b_add_up_to_its_published_size():
    config = MIXTRAL_8X7B
    experts = 3 * config.num_layers * config.num_experts * 4096 * 14336
    names = (
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "block_sparse_moe.gate",
    )
    matrices = [tensor_shape(config, f"{name}.weight") for name in names]
    dense = config.num_layers * sum(rows * columns for rows, columns in matrices)
    norms = (2 * config.num_layers + 1) * 4096
    assert experts + dense + norms + 2 * 32000 * 4096 == 46_702_792_704
    assert expert_shape(config, "w1") == expert_shape(config, "w3") == (14336, 4096)
    assert expert_shape(config, "w2") == (4096, 14336)


def test_an_unknown_tensor_has_no_shape():
    with pytest.raises(CheckpointError, match="model.layers.3.self_attn.bias: not a tensor of a Mixtral model"):
        tensor_shape(MIXTRAL_8X7B, "model.layers.3.self_attn.bias")
