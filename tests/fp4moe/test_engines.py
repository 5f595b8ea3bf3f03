"""Which engine serves: the GPU's where it runs, with the reason where it does not."""

from dataclasses import replace

import pytest

from fp4moe.errors import EngineError
from fp4moe.precision import Precision
from fp4moe.runtime import MIXTRAL_8X7B, Engine, MixtralConfig, RandomWeights, choose_engine, load_model, make_engine
from fp4moe.runtime.engines import ENGINES, NAMES
from fp4moe.select import Capability, Environment
from fp4moe.select.environment import COMPLETE

H100, CPU = Capability.parse("sm_90"), Capability.parse("cpu")


@pytest.mark.parametrize("name", ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_a_gpu_from_sm_80_on_takes_the_gpu_engine(name):
    choice = choose_engine(MIXTRAL_8X7B, Capability.parse(name), COMPLETE)
    assert choice.row.name == "gpu" and choice.refused == ()


REFUSED = [
    pytest.param(MIXTRAL_8X7B, CPU, COMPLETE, "sm_80 or newer, this device is cpu", id="no-gpu"),
    pytest.param(MIXTRAL_8X7B, Capability.parse("sm_75"), COMPLETE, "this device is sm_75", id="old-gpu"),
    pytest.param(MIXTRAL_8X7B, H100, Environment(frozenset({"cc"})), "needs the package triton", id="no-triton"),
    pytest.param(MIXTRAL_8X7B, H100, Environment(frozenset({"triton"})), "needs a C compiler", id="no-compiler"),
    pytest.param(replace(MIXTRAL_8X7B, head_dim=96), H100, COMPLETE, r"power of two of at least 32 \(got 96\)", id="odd-head"),
    pytest.param(replace(MIXTRAL_8X7B, head_dim=16), H100, COMPLETE, r"at least 32 \(got 16\)", id="small-head"),
    pytest.param(replace(MIXTRAL_8X7B, num_kv_heads=1), H100, COMPLETE, r"at most 16 query heads .* \(got 32\)", id="shared"),
]


@pytest.mark.parametrize(("config", "capability", "environment", "reason"), REFUSED)
def test_elsewhere_the_plain_one_serves_and_the_reason_is_kept(config, capability, environment, reason):
    choice = choose_engine(config, capability, environment)
    assert choice.row.name == "plain" and [name for name, _ in choice.refused] == ["gpu"]
    with pytest.raises(EngineError, match=f"engine: gpu does not run here: it .*{reason}"):
        choose_engine(config, capability, environment, wanted="gpu")


def test_the_plain_engine_can_be_asked_for_by_name():
    choice = choose_engine(MIXTRAL_8X7B, H100, COMPLETE, wanted="plain")
    assert choice.row.name == "plain" and choice.refused == (("gpu", "runs here, but plain was asked for"),)


def test_a_name_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(EngineError, match=r"must be one of gpu, plain \(got 'fast'\)"):
        choose_engine(MIXTRAL_8X7B, H100, COMPLETE, wanted="fast")


def test_every_row_loads_a_class_with_the_same_interface():
    pytest.importorskip("triton")
    assert NAMES == ("gpu", "plain")
    for row in ENGINES:
        engine = row.load()
        for name in ("submit", "cancel", "step", "record_into", "has_work", "kv_cache_bytes", "facts"):
            assert hasattr(engine, name), (row.name, name)


def test_on_a_cpu_an_engine_is_the_plain_one_and_takes_the_gpus_option():
    config = MixtralConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16,
        num_experts=4, top_k=2, max_positions=32,
    )  # fmt: skip
    model = load_model(RandomWeights(config), Precision("bf16"))
    engine = make_engine(model, max_slots=1, max_context=8, use_graphs=False)
    assert type(engine) is Engine and engine.facts["engine"] == "plain"
