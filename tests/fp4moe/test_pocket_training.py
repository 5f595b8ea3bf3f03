"""The shipped pocket-mixtral files hold what the model card says, and its training code is Mixtral's math."""

import hashlib
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, MixtralForCausalLM

from fp4moe.pocket import checkpoint_dir, heldout_path, heldout_text
from fp4moe.pocket.training.batches import IGNORED, eval_windows, with_bos
from fp4moe.pocket.training.contamination import drop_shared_paragraphs, shingles
from fp4moe.pocket.training.evaluate import load_model, total_bits, xz_bits_per_byte
from fp4moe.pocket.training.export import config_hf, load_state_dict_hf, state_dict_hf
from fp4moe.pocket.training.model import PocketMixtral, Shape, load_balance
from fp4moe.pocket.training.tokenizer import BOS_ID

MAX_CHECKPOINT_BYTES = 12_000_000


def read_json(name: str) -> dict:
    return json.loads((checkpoint_dir() / name).read_text())


def small_model() -> PocketMixtral:
    torch.manual_seed(0)
    return PocketMixtral(Shape(num_hidden_layers=2))


def test_checkpoint_fits_its_size_limit():
    assert (checkpoint_dir() / "model.safetensors").stat().st_size <= MAX_CHECKPOINT_BYTES


def test_config_is_mixtral_with_sizes_in_multiples_of_128():
    config = read_json("config.json")
    assert config["model_type"] == "mixtral"
    assert (config["num_local_experts"], config["num_experts_per_tok"]) == (8, 2)
    assert config["hidden_size"] % 128 == 0 and config["intermediate_size"] % 128 == 0


def test_tokenizer_returns_the_heldout_text_byte_for_byte():
    tokenizer = Tokenizer.from_file(str(checkpoint_dir() / "tokenizer.json"))
    text = heldout_text()
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_auto_tokenizer_opens_a_text_with_bos():
    ids = AutoTokenizer.from_pretrained(checkpoint_dir())("Call me Ishmael.").input_ids
    assert ids[0] == BOS_ID and BOS_ID not in ids[1:]


def test_heldout_works_cover_the_file_in_order():
    blob, summary = heldout_path().read_bytes(), read_json("heldout.json")
    edges = [0] + [work["end_byte"] for work in summary["works"]]
    assert [work["start_byte"] for work in summary["works"]] == edges[:-1]
    assert edges[-1] == len(blob) == summary["num_bytes"]
    assert hashlib.sha256(blob).hexdigest() == summary["sha256"]
    assert b"\r" not in blob


def test_recorded_bits_per_byte_beat_xz_on_the_same_bytes():
    recorded = read_json("training_log.json")["evaluation"]["heldout"]
    blob = heldout_path().read_bytes()
    assert recorded["num_bytes"] == len(blob)
    assert recorded["bits_per_byte"] < xz_bits_per_byte(blob)


def test_shipped_weights_compress_a_passage_as_recorded():
    text = heldout_text()[100_000:112_000]  # inside Persuasion
    ids = torch.tensor(Tokenizer.from_file(str(checkpoint_dir() / "tokenizer.json")).encode(text, add_special_tokens=False).ids)
    model = load_model(checkpoint_dir())
    bits = total_bits(lambda x: model(x)[0], ids.numpy(), 512, torch.device("cpu"))
    recorded = read_json("training_log.json")["evaluation"]["heldout_works"][0]["bits_per_byte"]
    # a tenth either way: a passage of 12 kB differs from its novel, untrained weights are 3 bits away
    assert bits / len(text.encode()) == pytest.approx(recorded, rel=0.1)


def test_training_model_equals_transformers(tmp_path):
    model = small_model()
    save_file(state_dict_hf(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config_hf(model.shape, aux_coefficient=0.01)))
    reference, info = MixtralForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert not any(info.values())
    ids = torch.randint(3, model.shape.vocab_size, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids)[0], reference.eval()(ids).logits, atol=1e-4, rtol=0)


def test_state_dict_round_trip_keeps_every_parameter():
    model, other = small_model(), PocketMixtral(Shape(num_hidden_layers=2))
    load_state_dict_hf(other, state_dict_hf(model))
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_one_step_lowers_the_loss():
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    targets = torch.randint(3, model.shape.vocab_size, (2, 64), generator=torch.Generator().manual_seed(2))

    def loss() -> torch.Tensor:
        logits, probs, gates = model(with_bos(targets))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + 0.01 * load_balance(probs, gates)[0]

    before = loss()
    before.backward()
    optimizer.step()
    assert loss() < before


def test_load_balance_is_one_when_uniform_and_larger_when_skewed():
    uniform = torch.full((8, 8), 1 / 8)
    pairs = torch.zeros(8, 8)
    for token in range(8):
        pairs[token, [token, (token + 1) % 8]] = 0.5
    assert load_balance([uniform], [pairs])[0].item() == pytest.approx(1.0)
    skewed = torch.zeros(8, 8)
    skewed[:, :2] = 0.5
    assert load_balance([skewed], [skewed])[0].item() == pytest.approx(4.0)  # 8 * (2 * 1/2 * 1/2)


def test_eval_windows_cover_each_token_once():
    windows = eval_windows(torch.arange(10).numpy(), 4)
    assert windows[windows != IGNORED].tolist() == list(range(10))


def test_training_loses_the_paragraph_it_shares_with_heldout():
    shared = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    row = {"group": "literature", "text": f"Before.\n\n{shared}\n\nAfter.\n"}
    assert drop_shared_paragraphs(row, shingles(shared)) == 1
    assert row["text"] == "Before.\n\nAfter.\n"
