"""The same logits and perplexity as `transformers.MixtralForCausalLM`, in float32 on one BF16 checkpoint.

Tiny random models cover the shapes; the shipped `pocket-mixtral` covers trained weights and real text.
"""

import json

import pytest
import torch
from safetensors.torch import save_file

from fp4moe.pocket import checkpoint_dir, heldout_text
from fp4moe.precision import Precision
from fp4moe.runtime import Engine, Request, load_model

transformers = pytest.importorskip("transformers", minversion="5.10.4")
EXACT = Precision("bf16", "none", "fp32")
MAX_LOGIT_DIFFERENCE = 1e-4
MAX_RELATIVE_PERPLEXITY_DIFFERENCE = 1e-4

TINY = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "sliding_window": None,
}
VARIANTS = [
    pytest.param({}, id="grouped-queries-untied-top-2"),
    pytest.param({"tie_word_embeddings": True, "num_experts_per_tok": 1}, id="tied-head-top-1"),
    pytest.param({"num_key_value_heads": 4, "head_dim": 32}, id="head-dim-not-hidden-over-heads"),
    pytest.param({"rope_theta": 500.0, "rms_norm_eps": 1e-3}, id="other-rope-and-eps"),
]


def write_classic(folder, config):
    """A random BF16 checkpoint with the expert names of transformers 4, which every engine reads."""
    torch.manual_seed(0)
    tensors = transformers.MixtralForCausalLM(config).bfloat16().state_dict()
    classic = {}
    for name, tensor in tensors.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            prefix = name.replace(".mlp.", ".block_sparse_moe.").rsplit(".", 1)[0]
            for expert, matrix in enumerate(tensor):
                parts = {"w2": matrix} if name.endswith("down_proj") else dict(zip(("w1", "w3"), matrix.chunk(2), strict=True))
                classic |= {f"{prefix}.{expert}.{part}.weight": values for part, values in parts.items()}
        elif not (name == "lm_head.weight" and config.tie_word_embeddings):
            classic[name.replace(".mlp.gate.", ".block_sparse_moe.gate.")] = tensor
    save_file(
        {name: tensor.clone() for name, tensor in classic.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": ["MixtralForCausalLM"]}))


def load_theirs(folder):
    model = transformers.MixtralForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


@torch.no_grad()
def their_logits(model, tokens_BT):
    return model(tokens_BT, use_cache=False).logits


@pytest.mark.parametrize("changes", VARIANTS)
def test_logits_of_random_models(changes, tmp_path):
    write_classic(tmp_path, transformers.MixtralConfig(**(TINY | changes)))
    tokens_BT = torch.randint(131, (3, 29), generator=torch.Generator().manual_seed(1))
    ours = load_model(tmp_path, EXACT).score(tokens_BT)
    theirs = their_logits(load_theirs(tmp_path), tokens_BT)
    assert theirs.std() > 0.1, "logits must be large enough for the comparison to mean something"
    assert (ours - theirs).abs().max() <= MAX_LOGIT_DIFFERENCE


@pytest.fixture(scope="module")
def pocket():
    return load_model(checkpoint_dir(), EXACT), load_theirs(checkpoint_dir())


@pytest.fixture(scope="module")
def heldout_BT():
    """Four windows of 256 tokens, spread over the held-out text."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint_dir() / "tokenizer.json"))
    ids = tokenizer.encode(heldout_text()[:40_000], add_special_tokens=False).ids
    return torch.tensor([ids[start : start + 256] for start in range(0, 8000, 2000)])


def perplexity(logits_BTV, tokens_BT):
    nll = torch.nn.functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1).double(), tokens_BT[:, 1:].flatten())
    return float(nll.exp())


def test_logits_and_perplexity_of_the_shipped_checkpoint(pocket, heldout_BT):
    ours, theirs = pocket[0].score(heldout_BT), their_logits(pocket[1], heldout_BT)
    assert (ours - theirs).abs().max() <= MAX_LOGIT_DIFFERENCE
    expected = perplexity(theirs, heldout_BT)
    assert expected < 2048 / 8, "a trained model must be far better than chance"
    assert perplexity(ours, heldout_BT) == pytest.approx(expected, rel=MAX_RELATIVE_PERPLEXITY_DIFFERENCE)


def test_greedy_tokens_of_the_shipped_checkpoint(pocket, heldout_BT):
    prompt_ids, count = heldout_BT[0, :32].tolist(), 24
    engine = Engine(pocket[0], max_slots=1, max_context=64, kv_dtype="fp32")
    engine.submit(Request("a", prompt_ids, count))
    ours = []
    while engine.has_work:
        ours += [token for _, token in engine.step().emitted]
    with torch.no_grad():
        theirs = pocket[1].generate(
            torch.tensor([prompt_ids]),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
    assert ours == theirs[0, len(prompt_ids) :].tolist()


@pytest.mark.parametrize("weights", ["bf16", "nvfp4"])
def test_batching_does_not_change_greedy_tokens_of_the_shipped_checkpoint(weights, heldout_BT):
    model = load_model(checkpoint_dir(), Precision(weights))
    requests = [Request(f"r{i}", heldout_BT[i % 4, i : i + 5 + 7 * i].tolist(), 16) for i in range(6)]

    def run(requests, max_slots):
        engine, tokens = Engine(model, max_slots=max_slots, max_context=96), {}
        for request in requests:
            engine.submit(request)
        while engine.has_work:
            for request_id, token in engine.step().emitted:
                tokens.setdefault(request_id, []).append(token)
        return tokens

    together = run(requests, max_slots=4)
    for request in requests:
        assert together[request.request_id] == run([request], max_slots=1)[request.request_id]
