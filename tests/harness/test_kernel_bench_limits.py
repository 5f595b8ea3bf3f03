"""The arithmetic of ceilings, limits and copies; shapes and formats as the command takes them."""

import subprocess
import sys

import pytest
import torch

from commands import environment
from harness.errors import UsageError
from harness.kernel_bench import ceilings as measured
from harness.kernel_bench import limits, shapes
from harness.kernel_bench.formats import BITS_A_WEIGHT, parse_format
from harness.kernel_bench.limits import Ceilings, num_copies
from harness.kernel_bench.memory_groups import group_by_memory
from harness.kernel_bench.shapes import MIXTRAL_8X7B, layer_shape
from harness.kernel_bench.timing import Timed, rounds_for
from harness.models import MIXTRAL_8X7B as CONFIG
from kernel_bench_rows import CEILINGS, row


def test_the_shape_is_that_of_the_published_config():
    assert (MIXTRAL_8X7B.hidden, MIXTRAL_8X7B.intermediate) == (CONFIG["hidden_size"], CONFIG["intermediate_size"])
    assert (MIXTRAL_8X7B.num_experts, MIXTRAL_8X7B.top_k) == (CONFIG["num_local_experts"], CONFIG["num_experts_per_tok"])


def test_an_expert_has_the_bytes_that_the_facts_name():
    # 3 * 4096 * 14336 weights at 4.5, 4.25 and 16 bits
    assert MIXTRAL_8X7B.expert_weights == 176_160_768
    assert parse_format("nvfp4-a16").bytes_an_expert(MIXTRAL_8X7B.expert_weights) == 99_090_432
    assert parse_format("mxfp4-a16").bytes_an_expert(MIXTRAL_8X7B.expert_weights) == 93_585_408
    assert parse_format("bf16-a16").bytes_an_expert(MIXTRAL_8X7B.expert_weights) == 2 * 176_160_768


def test_bits_a_weight_are_those_of_the_runtime():
    from fp4moe.formats import WEIGHT_FORMATS

    assert {name: WEIGHT_FORMATS[name].bits_per_weight for name in BITS_A_WEIGHT} == BITS_A_WEIGHT


def test_a_token_costs_the_operations_that_the_facts_name():
    assert MIXTRAL_8X7B.flops(1) == pytest.approx(704.6e6, rel=1e-4)


@pytest.mark.parametrize(
    ("tokens", "hit", "us", "bound_by"),
    [
        # ceilings: 4200 GB/s, BF16 780 TFLOP/s
        pytest.param(1, 2.0, 2 * 99_090_432 / 4.2e6, "read", id="two-experts-read"),
        pytest.param(16, 8.0, 8 * 99_090_432 / 4.2e6, "read", id="all-experts-read"),
        pytest.param(4096, 8.0, 4096 * 704_643_072 / 780e6, "product", id="many-tokens-multiply"),
    ],
)
def test_the_limit_is_the_larger_of_reading_and_multiplying(tokens, hit, us, bound_by):
    limit = limits.limit_of(MIXTRAL_8X7B, parse_format("nvfp4-a16"), tokens, experts_hit=hit, ceilings=CEILINGS)
    assert limit.us == pytest.approx(us, rel=1e-12) and limit.bound_by == bound_by


def test_figures_are_shares_of_the_ceilings():
    limit = limits.limit_of(MIXTRAL_8X7B, parse_format("nvfp4-a16"), 16, experts_hit=8, ceilings=CEILINGS)
    found = limits.figures(limit, 2 * limit.us, CEILINGS)
    assert found["ratio_to_limit"] == pytest.approx(2) and found["share_of_read_ceiling"] == pytest.approx(0.5)
    assert found["weight_gb_s"] == pytest.approx(2100)
    assert found["share_of_product_ceiling"] == pytest.approx(found["tflops"] / 780)


def test_the_fastest_kernel_of_a_run_is_its_product_ceiling_where_it_beats_the_library():
    us = MIXTRAL_8X7B.flops(4096) / 1e6  # at 1 TFLOP/s
    rows = [row("a", 4096, us / rate, format_id=form) for form, rate in (("mxfp4-a16", 800), ("nvfp4-a16", 790), ("fp8-a8", 9))]
    rows += [row("fp4-unit", 4096, us / 5000, format_id="nvfp4-a4"), row("a", 4096, us / 9000) | {"status": "failed check"}]
    reached = limits.reached_tflops(CEILINGS.product_tflops, rows)
    assert reached == {"bf16": pytest.approx(800), "fp8": CEILINGS.product_tflops["fp8"]}
    assert limits.products_beaten(CEILINGS.product_tflops, rows) == {"bf16": rows[0]}


@pytest.mark.parametrize(
    ("format_id", "products", "kind"),
    [
        pytest.param("nvfp4-a16", {"bf16": 1.0, "fp8": 2.0}, "bf16", id="bf16-operands"),
        pytest.param("nvfp4-a8", {"bf16": 1.0, "fp8": 2.0}, "fp8", id="fp8-operands"),
        pytest.param("nvfp4-a8", {"bf16": 1.0}, "bf16", id="no-fp8-product-here"),
        pytest.param("nvfp4-a4", {"bf16": 1.0, "fp8": 2.0}, "fp8", id="no-fp4-product-measured"),
        pytest.param("nvfp4-a16", {"fp32": 1.0}, "fp32", id="cpu"),
    ],
)
def test_the_product_ceiling_is_that_of_the_operands(format_id, products, kind):
    made = Ceilings({"sum": 1.0}, products)
    assert made.product_kind(parse_format(format_id).activations) == kind


def test_the_best_read_pattern_counts_and_is_named():
    assert CEILINGS.best_read_gb_s == 4200 and CEILINGS.to_json()["read_pattern"] == "streaming load"


def test_ceilings_of_a_cpu_are_measured(monkeypatch):
    monkeypatch.setitem(measured.READ_BYTES, "cpu", 2**20)
    monkeypatch.setitem(measured.PRODUCT_SIZE, "cpu", 64)
    found = measured.measure(torch.device("cpu"))
    assert found.best_read_gb_s > 0 and found.product_tflops["fp32"] > 0


def test_the_streaming_read_reads_every_word():
    """Under Triton's interpreter, in a process of its own: XOR of the words each program read."""
    pytest.importorskip("triton")
    code = """
import torch
from fp4moe.triton.interpreter import repair
repair()
from harness.kernel_bench.streaming_read import BLOCK, PROGRAMS_A_MULTIPROCESSOR, streaming_read
data = torch.randint(1, 2**17, (16 * BLOCK,), dtype=torch.int32)
for name, run in streaming_read(data.view(torch.float32)).items():
    unroll, found = int(name.split()[0]), run()
    right = torch.zeros(PROGRAMS_A_MULTIPROCESSOR, BLOCK, dtype=torch.int32)
    for block, words in enumerate(data.view(-1, BLOCK)):
        right[(block // unroll) % PROGRAMS_A_MULTIPROCESSOR] ^= words
    assert torch.equal(found, right.sum(1).to(torch.int32)), name
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(TRITON_INTERPRET="1"), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("l2_bytes", "smallest", "copies"),
    [
        pytest.param(60_000_000, 198_000_000, 4, id="never-fewer-than-four"),
        pytest.param(60_000_000, 50_000_000, 5, id="four-times-the-l2"),
        pytest.param(60_000_000, 48_000_000, 5, id="exactly-four-times-the-l2"),
        pytest.param(0, 1000, 4, id="no-gpu"),
    ],
)
def test_copies_go_past_four_times_the_l2(l2_bytes, smallest, copies):
    assert num_copies(l2_bytes, smallest) == copies
    assert copies * smallest >= 4 * l2_bytes


def test_contenders_that_do_not_fit_together_are_grouped():
    keys = [("nvfp4", "rows"), ("nvfp4", "fragments"), ("nvfp4", "rows"), ("bf16", "vllm")]
    sizes = {"nvfp4": 1.0, "bf16": 4.0}
    assert group_by_memory(keys, sizes, copies=4, free_bytes=1000) == [[0, 1, 2, 3]]
    # rows and fragments are 4 each, 1 for the reference, 3 for packing: 12 of 75 % of 17
    assert group_by_memory(keys, sizes, copies=4, free_bytes=17) == [[0, 1, 2], [3]]
    assert group_by_memory(keys, sizes, copies=4, free_bytes=1) == [[0], [1], [2], [3]]


def test_median_and_quartiles_of_the_samples():
    timed = Timed((1.0, 2.0, 3.0, 4.0, 100.0), "")
    assert timed.median_us == 3 and timed.iqr_us == 2


@pytest.mark.parametrize(("expected_us", "rounds"), [(10.0, 8), (250.0, 4), (5000.0, 1), (0.0, 8)])
def test_short_calls_are_repeated_within_a_replay(expected_us, rounds):
    assert rounds_for(expected_us) == rounds


def test_a_model_that_is_not_known_is_refused():
    with pytest.raises(UsageError, match="mixtral-8x7b, pocket-mixtral, or the path"):
        layer_shape("mixtral-9x9b")


def test_a_checkpoint_is_taken_by_its_path():
    from fp4moe.pocket import checkpoint_dir

    by_path, by_name = layer_shape(str(checkpoint_dir())), layer_shape("pocket-mixtral")
    assert (by_path.hidden, by_path.num_experts) == (by_name.hidden, by_name.num_experts) == (256, 8)


@pytest.mark.parametrize(
    ("kernels", "tokens"),
    [
        pytest.param((), (1,), id="all-kernels"),
        pytest.param(("reference",), (1, 64), id="reference-with-many-tokens"),
    ],
)
def test_a_large_layer_on_a_cpu_is_refused_in_words(kernels, tokens):
    with pytest.raises(UsageError) as refused:
        shapes.refuse_on_cpu(MIXTRAL_8X7B, kernels, tokens)
    for word in ("1.41 billion weights", "no GPU", "--model pocket-mixtral", "--kernel reference"):
        assert word in str(refused.value)


def test_the_reference_with_few_tokens_may_run_a_large_layer_on_a_cpu():
    assert shapes.refuse_on_cpu(MIXTRAL_8X7B, ("reference",), (1, 2)) is None


@pytest.mark.parametrize(
    ("text", "short", "precision"),
    [
        ("nvfp4-a16", "nvfp4-a16", "nvfp4-search-a16"),
        ("nvfp4-absmax-a16", "nvfp4-a16", "nvfp4-absmax-a16"),
        ("mxfp4-a4", "mxfp4-a4", "mxfp4-search-a4"),
        ("nvfp4-a8", "nvfp4-a8", "nvfp4-search-a8"),
        ("bf16-a16", "bf16-a16", "bf16-a16"),
    ],
)
def test_a_format_is_named_as_in_scenarios(text, short, precision):
    form = parse_format(text)
    assert (form.id, form.precision.id) == (short, precision)


def test_a_format_that_is_not_known_lists_those_that_are():
    with pytest.raises(UsageError, match="nvfp4-a16.*got 'fp3-a16'"):
        parse_format("fp3-a16")
