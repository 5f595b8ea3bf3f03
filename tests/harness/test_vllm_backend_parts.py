"""The parts of the vLLM backend that need no vLLM: what it could run, where it is, what it loads, memory, arguments."""

import dataclasses
import json
import stat
import sys

import pytest

from fp4moe import pocket
from fp4moe.checkpoint import open_checkpoint
from fp4moe.precision import Precision as RuntimePrecision
from fp4moe.runtime import load_model
from harness.backends.served.launch import flags
from harness.backends.vllm import environment
from harness.backends.vllm.facts import unsupported
from harness.backends.vllm.memory import CAUSES, cause_of, memory_metrics
from harness.backends.vllm.weights import CACHE_VARIABLE, prepare
from harness.device import Device, cpu
from harness.models import MIXTRAL_8X7B, ModelSource, resolve
from harness.precisions import Precision
from harness.scenario.backends import VllmBackendSpec
from harness.scenario.schema import ModelSpec

H100 = Device("H100", "NVIDIA H100 80GB HBM3", "9.0", 80 * 10**9, 80 * 10**9, is_attached=False)
V100 = dataclasses.replace(H100, kind="gpu", name="V100", capability="7.0")
BF16, NVFP4 = Precision("bf16", "none", "bf16"), Precision("nvfp4", "absmax", "bf16")


@pytest.fixture(autouse=True)
def no_environment_of_this_machine(monkeypatch, tmp_path):
    for name in (environment.PYTHON_VARIABLE, environment.PATH_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(environment, "LOCAL_ENVIRONMENT", tmp_path / "none")
    environment.probe.cache_clear()


@pytest.mark.parametrize(
    ("precision", "device", "words"),
    [
        pytest.param(BF16, cpu(), None, id="bf16-on-a-cpu"),
        pytest.param(NVFP4, H100, None, id="nvfp4-marlin-on-hopper"),
        pytest.param(Precision("fp8", "absmax", "fp8"), H100, None, id="fp8"),
        pytest.param(NVFP4, cpu(), "need a CUDA GPU", id="nvfp4-on-a-cpu"),
        pytest.param(NVFP4, V100, "sm_75 or newer; this is 7.0", id="nvfp4-before-turing"),
        pytest.param(Precision("nvfp4", "search", "nvfp4"), H100, "calibrated input scales", id="w4a4"),
        pytest.param(Precision("ternary", "search", "bf16"), H100, "vLLM has no experts in ternary", id="ternary"),
    ],
)
def test_what_vllm_can_run(precision, device, words):
    problem = unsupported(precision, device)
    assert problem is None if words is None else words in problem


def test_no_environment_says_what_to_do():
    found, missing = environment.find(VllmBackendSpec(kind="vllm"))
    assert found is None and environment.PYTHON_VARIABLE in missing and "make venv-vllm" in missing


@pytest.mark.parametrize(
    ("python", "words"),
    [
        pytest.param("/nowhere/python", "cannot be run", id="no-such-file"),
        pytest.param(sys.executable, "finds no vllm", id="python-without-vllm"),
        pytest.param("/bin/false", "exit code 1", id="not-a-python"),
    ],
)
def test_an_environment_that_is_none(python, words):
    found, missing = environment.find(VllmBackendSpec(kind="vllm", python=python))
    assert found is None and words in missing and f"python: {python}" in missing


def test_a_folder_with_vllm_unpacked_is_found(tmp_path, monkeypatch):
    (tmp_path / "site" / "vllm").mkdir(parents=True)
    (tmp_path / "site" / "vllm" / "__init__.py").touch()
    (tmp_path / "site" / "vllm-0.24.0.dist-info").mkdir()
    (tmp_path / "site" / "vllm-0.24.0.dist-info" / "METADATA").write_text("Name: vllm\nVersion: 0.24.0\n")
    monkeypatch.setenv(environment.PYTHON_VARIABLE, sys.executable)
    monkeypatch.setenv(environment.PATH_VARIABLE, str(tmp_path / "site"))
    found, missing = environment.find(VllmBackendSpec(kind="vllm"))
    assert missing is None and found.versions["vllm"] == "0.24.0"
    assert found.variables()["PYTHONPATH"] == str(tmp_path / "site") and found.variables()["HF_HUB_OFFLINE"] == "1"


def test_export_holds_the_weights_that_we_run_and_is_kept():
    source = resolve(ModelSpec(name="pocket-mixtral"))
    precision = RuntimePrecision("nvfp4", "absmax", "bf16")
    first = prepare(source, precision, "modelopt-nvfp4", lambda done, total: None)
    assert open_checkpoint(first.folder).storage == "modelopt-nvfp4"
    assert first.sha256 == load_model(pocket.checkpoint_dir(), precision).weights_sha256
    written = (first.folder / "config.json").stat()
    again = prepare(source, precision, "modelopt-nvfp4", lambda done, total: None)
    assert again == first and (again.folder / "config.json").stat()[stat.ST_MTIME] == written[stat.ST_MTIME]


def test_bf16_is_loaded_as_it_lies():
    weights = prepare(resolve(ModelSpec(name="pocket-mixtral")), RuntimePrecision("bf16", "none", "bf16"), None, print)
    assert weights.folder == pocket.checkpoint_dir() and weights.layout is None and len(weights.sha256) == 64


@pytest.mark.parametrize("layout", [None, "modelopt-nvfp4", "ct-nvfp4"])
def test_a_shape_without_weights(layout):
    source = ModelSource("mixtral-8x7b", None, "random", MIXTRAL_8X7B, is_user_path=False)
    precision = RuntimePrecision("nvfp4" if layout else "bf16", "search" if layout else "none", "bf16")
    weights = prepare(source, precision, layout, print)
    config = json.loads((weights.folder / "config.json").read_text())
    assert weights.load_format == "dummy" and weights.sha256 is None
    assert config["architectures"] == ["MixtralForCausalLM"] and config["num_hidden_layers"] == 32
    assert ("quantization_config" in config) == (layout is not None)
    assert (weights.folder / "hf_quant_config.json").is_file() == (layout == "modelopt-nvfp4")


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("model.layers.0.block_sparse_moe.experts.w13_weight", "expert_codes_bytes"),
        ("model.layers.0.block_sparse_moe.experts.w13_weight_scale", "expert_scales_bytes"),
        ("model.layers.0.block_sparse_moe.experts.w2_weight_scale_2", "expert_tensor_scales_bytes"),
        ("model.layers.0.block_sparse_moe.gate.weight", "router_bytes"),
        ("model.layers.0.self_attn.qkv_proj.weight", "attention_bytes"),
        ("model.layers.0.input_layernorm.weight", "norm_bytes"),
        ("model.norm.weight", "norm_bytes"),
        ("model.embed_tokens.weight", "embedding_bytes"),
        ("lm_head.weight", "embedding_bytes"),
    ],
)
def test_cause_of_a_parameter(name, cause):
    assert cause_of(name) == cause


def _engine(**changes) -> dict:
    parameters = {"model.layers.0.block_sparse_moe.experts.w13_weight": 900, "model.norm.weight": 100}
    engine = {"parameters": parameters, "parameters_reason": None, "num_kv_blocks": 10, "kv_block_tokens": 16}
    return engine | {"kv_dtype": "auto"} | changes


def test_memory_by_cause():
    source = resolve(ModelSpec(name="pocket-mixtral"))
    found = memory_metrics(_engine(), source, 1000)
    assert (found["weight_bytes"]["value"], found["expert_codes_bytes"]["value"], found["norm_bytes"]["value"]) == (
        1000,
        900,
        100,
    )
    # 2 (keys, values) x 5 layers x 2 heads x 64 x 2 bytes a token, in 10 blocks of 16 tokens
    assert found["kv_cache_bytes"]["value"] == 2 * 5 * 2 * 64 * 2 * 160


@pytest.mark.parametrize(
    ("changes", "expected_bytes", "words"),
    [
        pytest.param({}, 2000, "keeps them elsewhere", id="repacked-outside"),
        pytest.param({"parameters": None, "parameters_reason": "TypeError: x"}, 1000, "TypeError: x", id="not-told"),
    ],
)
def test_memory_that_cannot_be_known_is_null(changes, expected_bytes, words):
    found = memory_metrics(_engine(**changes), resolve(ModelSpec(name="pocket-mixtral")), expected_bytes)
    assert all(found[name]["value"] is None and words in found[name]["reason"] for name in (*CAUSES, "weight_bytes"))


def test_flags_as_vllm_spells_them():
    args = {"enforce_eager": True, "enable_prefix_caching": False, "max_model_len": 512, "sizes": [1, 2]}
    assert flags(args) == ["--enforce-eager", "--no-enable-prefix-caching", "--max-model-len", "512", "--sizes", "1", "2"]
