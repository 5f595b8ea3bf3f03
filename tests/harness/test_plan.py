"""The plan is a pure product, each dropped cell has its reason, and unfit workloads are refused."""

import pytest

from harness.device import Device, kind_of, named
from harness.errors import ScenarioError, UsageError
from harness.models import MIXTRAL_8X7B, ModelSource
from harness.plan import Facts, all_precisions, check_lengths, make_plan
from harness.scenario.schema import Scenario
from scenario_files import scenario_data

CPU = Device("cpu", "a processor", "cpu", 16 * 10**9, 8 * 10**9, is_attached=True)
H100 = Device("H100", "NVIDIA H100 80GB HBM3", "9.0", 85 * 10**9, 84 * 10**9, is_attached=True)
SMALL = {
    **MIXTRAL_8X7B,
    "hidden_size": 256,
    "num_hidden_layers": 5,
    "intermediate_size": 128,
    "max_position_embeddings": 2048,
}
POCKET = ModelSource("pocket-mixtral", "/p", "trained", SMALL, is_user_path=False)
LARGE = ModelSource("mixtral-8x7b", None, "random", MIXTRAL_8X7B, is_user_path=False)


def scenario(**changes) -> Scenario:
    return Scenario.model_validate(scenario_data() | changes)


def plan(s: Scenario, device: Device, memory_bytes: int = 10**9, problem: str | None = None):
    facts = {
        (model, precision.id): Facts({"expert_codes": memory_bytes}, (), problem)
        for model in ("pocket-mixtral", "mixtral-8x7b")
        for precision in all_precisions(s)
    }
    return make_plan(s, device, {"pocket-mixtral": POCKET, "mixtral-8x7b": LARGE}, facts)


def test_product_and_ids():
    ids = [cell.cell_id for cell in plan(scenario(), CPU).cells]
    assert ids == [
        "pocket-mixtral/native/bf16-a16/heldout/cpu",
        "pocket-mixtral/native/bf16-a16/single/cpu",
        "pocket-mixtral/native/nvfp4-search-a16/heldout/cpu",
        "pocket-mixtral/native/nvfp4-search-a16/single/cpu",
    ]


def test_bf16_comes_first_however_it_is_written():
    s = scenario(precisions=["nvfp4", "mxfp4", "bf16"])
    assert [precision.id for precision in all_precisions(s)] == [
        "bf16-a16",
        "nvfp4-search-a16",
        "mxfp4-search-a16",
    ]


def test_large_model_on_a_cpu_is_dropped_with_size():
    dropped = plan(scenario(models=["mixtral-8x7b"]), CPU, 27 * 10**9).dropped
    assert len(dropped) == 4
    assert "46.7 B parameters need a GPU with 27.0 GB free; this machine has no GPU" in {d.reason for d in dropped}


def test_what_does_not_fit_is_dropped_with_figures():
    result = plan(scenario(models=["mixtral-8x7b"], quality=None), H100, 93 * 10**9)
    assert not result.cells
    assert "needs 93.0 GB (expert codes 93.0); NVIDIA H100 80GB HBM3 has 84.0 GB free" in result.dropped[0].reason


def test_random_weights_have_no_perplexity_but_have_speed():
    result = plan(scenario(models=["mixtral-8x7b"]), H100)
    assert {cell.workload_name for cell in result.cells} == {"single"}
    assert all("no perplexity" in item.reason for item in result.dropped)


def test_other_machine_is_dropped_with_what_to_do():
    result = plan(scenario(targets=["H100", "RTX 5090"]), H100)
    assert {cell.target for cell in result.cells} == {"h100"}
    assert {item.cell.target for item in result.dropped} == {"rtx-5090"}
    assert "harness report" in result.dropped[0].reason


def test_no_implementation_is_a_reason():
    result = plan(scenario(), CPU, problem="no implementation of experts")
    assert not result.cells and result.dropped[0].reason.startswith("no implementation")


def test_same_target_asked_twice_is_run_once():
    result = plan(scenario(targets=["any", "H100"]), H100)
    assert len({cell.cell_id for cell in result.cells}) == len(result.cells) == 4


def test_prompt_longer_than_the_context():
    s = scenario(workloads=[scenario_data()["workloads"][0] | {"prompt_tokens": 2045}])
    with pytest.raises(ScenarioError, match=r"workloads\[0\]: prompt_tokens \+ output_tokens = 2049 is more than"):
        check_lengths(s, {"pocket-mixtral": POCKET})


def test_parameter_count_of_mixtral_8x7b():
    # 46 702 792 704 is the count that the published checkpoint's tensors add up to.
    assert LARGE.num_parameters == 46_702_792_704


@pytest.mark.parametrize(
    ("reported", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("NVIDIA T4", "gpu"),
    ],
)
def test_reported_names(reported, kind):
    assert kind_of(reported) == kind


def test_named_gpu_need_not_be_attached():
    device = named("rtx 5090")
    assert (device.capability, device.is_attached, device.slug) == ("12.0", False, "rtx-5090")


def test_unknown_gpu_lists_the_known():
    with pytest.raises(UsageError, match="RTX 5090"):
        named("RTX 6090")
