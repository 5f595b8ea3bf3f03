"""Broken checkpoints: each is refused before anything is written, with file, tensor or key, value and rule.

Most run `prepare` in this process on a tiny random Mixtral; a few run the command on it and on the shipped model.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commands import assert_refused, run_harness
from harness import device
from harness.errors import ScenarioError
from harness.models import pocket_folder
from harness.run import prepare
from harness.scenario import load_scenario
from in_process_worker import use_in_process_worker
from scenario_files import scenario_data, write_scenario
from tiny_checkpoint import EXPERT, MOE, write_tiny

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
SHIPPED_TENSOR = "model.layers.3.block_sparse_moe.experts.5.w2.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("good") / "mine")


@pytest.fixture
def mine(good, tmp_path) -> Path:
    """A copy to break, beside the scenario that names it."""
    return Path(shutil.copytree(good, tmp_path / "mine"))


def scenario_of(folder: Path, precisions=("bf16", "nvfp4")) -> Path:
    changes = {"models": [{"name": "mine", "path": folder.name}], "precisions": list(precisions)}
    return write_scenario(folder.parent, scenario_data() | changes)


def files_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def refusal(folder: Path, monkeypatch, **options) -> str:
    """The message with which `prepare` refuses; nothing may have been written."""
    scenario_file = scenario_of(folder, **options)
    before = files_below(folder.parent)
    use_in_process_worker(monkeypatch)
    with pytest.raises(ScenarioError) as caught:
        prepare(load_scenario(scenario_file), device.cpu())
    assert files_below(folder.parent) == before
    return str(caught.value)


def change_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_tensor(folder: Path, name: str, change) -> None:
    """`change(tensor)` gives the new one, or None to leave it out."""
    tensors = load_file(folder / WEIGHTS)
    tensors[name] = change(tensors[name])
    save_file({key: value for key, value in tensors.items() if value is not None}, folder / WEIGHTS)


def with_value(value: float):
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[tensor.numel() // 2] = value
        return tensor

    return change


def truncate(file: Path, keep: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])


def test_the_unbroken_one_is_planned(mine, monkeypatch):
    use_in_process_worker(monkeypatch)
    prepared = prepare(load_scenario(scenario_of(mine)), device.cpu())
    assert len(prepared.plan.cells) == 4 and not prepared.plan.dropped


FILES = [
    pytest.param(lambda f: shutil.rmtree(f), ["no checkpoint at 'mine'"], id="no-folder"),
    pytest.param(lambda f: (f / "config.json").unlink(), ["no checkpoint at 'mine'", "config.json"], id="no-config"),
    pytest.param(lambda f: (f / WEIGHTS).unlink(), [WEIGHTS, "found config.json"], id="no-weights"),
    pytest.param(lambda f: (f / "tokenizer.json").unlink(), ["tokenizer.json: missing"], id="no-tokenizer"),
    pytest.param(lambda f: (f / "tokenizer.json").write_text("{}"), ["tokenizer.json: cannot be read"], id="tokenizer-empty"),
    pytest.param(lambda f: truncate(f / "tokenizer.json", 0.5), ["tokenizer.json: cannot be read"], id="tokenizer-cut"),
    pytest.param(lambda f: truncate(f / WEIGHTS, 0.7), [WEIGHTS, "cut short"], id="weights-cut-in-the-data"),
    pytest.param(lambda f: truncate(f / WEIGHTS, 0.001), [WEIGHTS, "cut short"], id="weights-cut-in-the-header"),
    pytest.param(lambda f: truncate(f / WEIGHTS, 0), [WEIGHTS, "cut short", "0 bytes"], id="weights-empty"),
    pytest.param(lambda f: (f / WEIGHTS).write_text("hello, world" * 99), ["not safetensors"], id="weights-are-text"),
    pytest.param(lambda f: (f / INDEX).write_text("[1"), ["index.json:1", "JSON"], id="index-not-json"),
    pytest.param(lambda f: (f / INDEX).write_text('{"weight_map": {"a": 5}}'), ["mine"], id="index-to-a-number"),
    pytest.param(
        lambda f: (f / INDEX).write_text('{"weight_map": {"a": "b.safetensors"}}'),
        ["b.safetensors", "no such file"],
        id="index-names-a-missing-file",
    ),
    pytest.param(lambda f: (f / "heldout.txt").write_text(""), ["heldout.txt: holds no token"], id="text-empty"),
    pytest.param(
        lambda f: (f / "heldout.txt").write_text("A short text."),
        ["fewer than quality.window_tokens (64)"],
        id="text-shorter-than-a-window",
    ),
    pytest.param(lambda f: (f / "heldout.txt").write_bytes(b"\xff\xfe\x00"), ["heldout.txt", "UTF-8"], id="text-not-utf-8"),
]


@pytest.mark.parametrize(("damage", "words"), FILES)
def test_damaged_file(mine, monkeypatch, damage, words):
    scenario_of(mine)
    damage(mine)
    message = refusal(mine, monkeypatch)
    assert "scenario.yaml:" in message and "models[0]" in message
    for word in words:
        assert word in message


TENSORS = [
    pytest.param(EXPERT, lambda t: t[:, :-1].clone(), "shape must be [64, 64] by config.json (got [64, 63])", id="wrong-shape"),
    pytest.param("model.norm.weight", lambda t: t[None].clone(), "shape must be [64]", id="wrong-rank"),
    pytest.param(EXPERT, lambda t: None, "missing", id="expert-missing"),
    pytest.param("model.embed_tokens.weight", lambda t: None, "missing", id="embedding-missing"),
    pytest.param(EXPERT, lambda t: t.int(), "I32", id="integers"),
    pytest.param(EXPERT, with_value(float("nan")), "got nan", id="nan-in-an-expert"),
    pytest.param(EXPERT, with_value(float("inf")), "inf", id="inf-in-an-expert"),
    pytest.param(f"{MOE}gate.weight", with_value(float("nan")), "got nan", id="nan-in-the-router"),
    pytest.param("model.norm.weight", with_value(float("-inf")), "inf", id="inf-in-a-norm"),
    pytest.param("model.embed_tokens.weight", with_value(float("nan")), "got nan", id="nan-in-the-embedding"),
]


@pytest.mark.parametrize(("name", "change", "rule"), TENSORS)
def test_bad_tensor_is_named(mine, monkeypatch, name, change, rule):
    change_tensor(mine, name, change)
    message = refusal(mine, monkeypatch)
    assert name in message and rule in message and "mine" in message


CONFIGS = [
    pytest.param({"model_type": "llama"}, ["model_type", "'llama'", "'mixtral'"], id="another-architecture"),
    pytest.param({"hidden_size": -64}, ["hidden_size", "-64", "from 1"], id="negative"),
    pytest.param({"num_hidden_layers": 10**9}, ["num_hidden_layers", "1000000000", "to 1024"], id="a-billion-layers"),
    pytest.param({"num_hidden_layers": 10**4000}, ["num_hidden_layers", "1000"], id="four-thousand-digits"),
    pytest.param({"vocab_size": 0}, ["vocab_size", "(got 0)"], id="no-vocabulary"),
    pytest.param({"num_attention_heads": "two"}, ["num_attention_heads", "'two'"], id="text-for-a-number"),
    pytest.param({"head_dim": 32.0}, ["head_dim", "32.0", "integer"], id="fraction-for-a-count"),
    pytest.param({"num_local_experts": True}, ["num_local_experts", "True"], id="yes-for-a-count"),
    pytest.param({"max_position_embeddings": None}, ["max_position_embeddings", "None"], id="null"),
    pytest.param({"num_experts_per_tok": 5}, ["config.json", "top_k", "5 and 4"], id="more-experts-a-token-than-experts"),
    pytest.param({"num_attention_heads": 3}, ["shape must be [96, 64]"], id="other-heads-than-the-weights"),
    pytest.param({"num_key_value_heads": 3}, ["3"], id="key-value-heads-that-do-not-divide"),
    pytest.param({"rms_norm_eps": 0}, ["rms_norm_eps", "from 1e-20 to 1 (got 0)"], id="epsilon-of-zero"),
    pytest.param({"rope_theta": "10k"}, ["rope_theta", "'10k'"], id="text-for-theta"),
    pytest.param({"rope_scaling": [8.0]}, ["rope_scaling", "[8.0]"], id="list-for-an-object"),
    pytest.param({"rope_scaling": {"rope_type": "yarn"}}, ["rope_type", "'yarn'"], id="rotary-embeddings-not-computed"),
    pytest.param({"sliding_window": 4096}, ["sliding_window", "4096"], id="sliding-window-not-computed"),
    pytest.param({"hidden_act": "gelu"}, ["hidden_act", "'gelu'"], id="another-activation-function"),
    pytest.param({"bos_token_id": None}, ["bos_token_id", "None"], id="no-begin-of-text"),
    pytest.param({"bos_token_id": 2048}, ["bos_token_id", "2048", "to 2047"], id="begin-of-text-beyond-the-vocabulary"),
    pytest.param(
        {"quantization_config": {"quant_method": "gptq"}}, ["quant_method", "'gptq'"], id="quantized-by-an-unknown-method"
    ),
    pytest.param({"quantization_config": 5}, ["quantization_config", "object of keys", "got 5"], id="quantized-by-a-number"),
]


@pytest.mark.parametrize(("changes", "words"), CONFIGS)
def test_bad_configuration_names_key_and_value(mine, monkeypatch, changes, words):
    change_config(mine, **changes)
    message = refusal(mine, monkeypatch)
    for word in words:
        assert word in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    ("text", "word"),
    [
        pytest.param("{'model_type': 'mixtral'}", "JSON", id="python-not-json"),
        pytest.param('["mixtral"]', "got list", id="list"),
        pytest.param("3", "got int", id="number"),
        pytest.param("", "JSON", id="empty"),
        pytest.param("[" * 100_000, "JSON", id="nested-beyond-the-stack"),
        pytest.param('{"rms_norm_eps": NaN}', "NaN is not a JSON number", id="nan"),
        pytest.param('{"model_type": "mixtral"}', "lacks hidden_size", id="keys-missing"),
        pytest.param("\udcff\udcfe", "JSON", id="not-utf-8"),
    ],
)
def test_config_that_is_no_configuration(mine, monkeypatch, text, word):
    (mine / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    message = refusal(mine, monkeypatch)
    assert "config.json" in message and word in message


def test_context_shorter_than_prompt_and_output_names_the_line(mine, monkeypatch):
    change_config(mine, max_position_embeddings=19)
    message = refusal(mine, monkeypatch)
    assert "workloads[0]: prompt_tokens + output_tokens = 20 is more than mine's context of 19 tokens" in message
    assert "quality.window_tokens: must be at most 18 for mine (got 64)" in message
    assert all("scenario.yaml:" in line for line in message.splitlines())


@pytest.mark.parametrize(
    ("sizes", "precision", "words"),
    [
        pytest.param({"hidden_size": 40}, "nvfp4", ["hidden_size", "multiple of 16", "got 40"], id="nvfp4-hidden"),
        pytest.param({"intermediate_size": 48}, "mxfp4", ["intermediate_size", "of 32", "got 48"], id="mxfp4-inner"),
        pytest.param({"hidden_size": 40}, {"weights": "bf16", "activations": "nvfp4"}, ["multiple of 16"], id="activations"),
    ],
)
def test_sizes_that_are_not_whole_blocks(tmp_path, monkeypatch, sizes, precision, words):
    folder = write_tiny(tmp_path / "mine", **sizes)
    message = refusal(folder, monkeypatch, precisions=("bf16", precision))
    for word in words:
        assert word in message


def test_sizes_that_are_not_whole_blocks_are_fine_in_bf16(tmp_path, monkeypatch):
    folder = write_tiny(tmp_path / "mine", hidden_size=40)
    use_in_process_worker(monkeypatch)
    prepared = prepare(load_scenario(scenario_of(folder, precisions=("bf16",))), device.cpu())
    assert len(prepared.plan.cells) == 2


def test_tokenizer_of_a_larger_vocabulary(tmp_path, monkeypatch):
    folder = write_tiny(tmp_path / "mine", vocab_size=512)
    assert "must be below vocab_size, 512" in refusal(folder, monkeypatch)


def test_stored_in_another_format_drops_the_other_precisions_with_the_reason(good, tmp_path, monkeypatch):
    from fp4moe.checkpoint import export

    export(good, tmp_path / "mine", layout="modelopt-nvfp4")
    for name in ("tokenizer.json", "heldout.txt"):
        shutil.copy(good / name, tmp_path / "mine" / name)
    use_in_process_worker(monkeypatch)
    prepared = prepare(load_scenario(scenario_of(tmp_path / "mine")), device.cpu())
    assert {cell.precision.weights for cell in prepared.plan.cells} == {"nvfp4"}
    assert {item.cell.precision.weights for item in prepared.plan.dropped} == {"bf16"}
    assert "stored as nvfp4" in prepared.plan.dropped[0].reason


def test_command_ends_with_2_and_writes_nothing(mine):
    change_tensor(mine, EXPERT, with_value(float("nan")))
    scenario_file = scenario_of(mine)
    before = files_below(mine.parent)
    done = run_harness("run", scenario_file, cwd=mine.parent)
    assert_refused(done, "scenario.yaml:3: models[0]", WEIGHTS, EXPERT, "got nan")
    assert files_below(mine.parent) == before


@pytest.mark.slow
def test_command_refuses_the_shipped_model_with_inf_in_it(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("config.json", WEIGHTS, "tokenizer.json", "heldout.txt"):
        shutil.copy(pocket_folder() / name, folder / name)
    change_tensor(folder, SHIPPED_TENSOR, with_value(float("inf")))
    scenario_file = scenario_of(folder)
    before = files_below(tmp_path)
    assert_refused(run_harness("run", scenario_file, cwd=tmp_path), SHIPPED_TENSOR, "inf")
    assert files_below(tmp_path) == before
