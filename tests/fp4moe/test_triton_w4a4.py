"""The W4A4 layer against the reference, through the twin of the block-scaled product, in Triton's interpreter.

Stage by stage: between the products h is rounded to 4 bits, where the last bit of a float32 sum may turn a code, so the down
product is compared on the very h that the first one gave, and the whole is compared with its own stages.
"""

from types import SimpleNamespace

import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.quantize import dequantize, quantize_weight, round_activation
from fp4moe.reference import route
from fp4moe.triton import w4a4
from w4a4_interpreted import interpreted

EXPERTS, HIDDEN, INTERMEDIATE = 4, 128, 256  # intermediate: two chunks, so that few tokens split the down product
FORMATS = ["nvfp4", "mxfp4"]
# A float32 sum of K products errs by at most K * 2^-24 of the sum of magnitudes, below 2 * sqrt(K) times the result's spread
# for random signs (test_gemm.py). SiLU and three factors behind the sum round a few times more, far below that.
TOLERANCE = INTERMEDIATE**1.5 * 2.0**-23
# bfloat16 rounds h, each router-weighted row and y, by 2^-9 each; rows of two experts may be of opposite sign (twice).
BF16_TOLERANCE = 4 * 2.0**-9


def random_experts(num_tokens: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(num_tokens, EXPERTS, generator=generator).topk(2).indices.tolist()


CASES = {
    "one-token": [[2, 0]],
    "one-expert-without-tokens": [[1], [3], [1], [0], [1]],
    "all-tokens-on-one-expert-in-two-tiles": [[3]] * 20,
    "all-mixed": random_experts(11),
    "tiles-of-32": random_experts(33),
}


def activations_of(case: str) -> torch.Tensor:
    return torch.randn(len(CASES[case]), HIDDEN, generator=torch.Generator().manual_seed(2))


def with_nan() -> torch.Tensor:
    x = activations_of("all-mixed")
    x[4, 9], x[7, 0] = torch.nan, torch.inf
    return x


def weights(format: str):
    generator = torch.Generator().manual_seed(3)
    gate_up = 0.3 * torch.randn(EXPERTS, 2 * INTERMEDIATE, HIDDEN, generator=generator)
    down = 0.3 * torch.randn(EXPERTS, HIDDEN, INTERMEDIATE, generator=generator)
    return quantize_weight(gate_up, format, "absmax"), quantize_weight(down, format, "absmax")


def routing_to(experts_TK: list[list[int]]):
    logits_TE = torch.full((len(experts_TK), EXPERTS), -20.0)
    for token, experts in enumerate(experts_TK):
        for place, expert in enumerate(experts):
            logits_TE[token, expert] = 1.0 - place
    return route(logits_TE, len(experts_TK[0]))


def layer(x_TD, ids_TK, weights_TK, format: str) -> dict:
    """Runs in the interpreting process: the stages, and the whole for a few tokens (the interpreter is slow)."""
    packed = w4a4.pack(*weights(format))
    tiles = w4a4.tile_slots(ids_TK, EXPERTS, w4a4.slots_of_a_tile(ids_TK.numel(), EXPERTS))
    options = {"dtype": x_TD.dtype, "product": w4a4.TWIN}
    h_SF = w4a4.gate_up(w4a4.quantize_rows(x_TD, format), packed, tiles, ids_TK.shape[1], **options)
    parts = w4a4.down(w4a4.quantize_rows(h_SF, format), packed, tiles, weights_TK, **options)
    result = {"h": h_SF, "shares": parts.shape[1], "y": w4a4.combine(parts, ids_TK.shape[1], x_TD.dtype)}
    if len(x_TD) < 6:
        routing = SimpleNamespace(ids_TK=ids_TK, weights_TK=weights_TK)
        result["whole"] = w4a4.experts(x_TD, packed, routing, format)
    return result


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(format, case) -> what `layer` returns, from one interpreting process."""
    inputs = {case: (activations_of(case), experts) for case, experts in CASES.items()}
    inputs["bfloat16"] = (activations_of("all-mixed").to(torch.bfloat16), CASES["all-mixed"])
    inputs["nan"] = (with_nan(), CASES["all-mixed"])
    keys, calls = [], []
    for format in FORMATS:
        for case, (x, experts) in inputs.items():
            routing = routing_to(experts)
            keys.append((format, case))
            calls.append(("test_triton_w4a4", "layer", (x, routing.ids_TK, routing.weights_TK, format), {}))
    return dict(zip(keys, interpreted(calls, tmp_path_factory.mktemp("experts")), strict=True))


def right_h(x_TD, experts_TK, format: str):
    """h in slot order, in float64."""
    w, x = dequantize(weights(format)[0]).double(), round_activation(x_TD, format).double()
    products = [(w[expert] @ x[token]).chunk(2) for token, experts in enumerate(experts_TK) for expert in experts]
    return torch.stack([gate * torch.sigmoid(gate) * up for gate, up in products])


def right_y(h_SF, experts_TK, format: str):
    """y from given h, in float64."""
    w, h = dequantize(weights(format)[1]).double(), round_activation(h_SF, format).double()
    slots = [expert for experts in experts_TK for expert in experts]
    rows = torch.stack([w[expert] @ h[slot] for slot, expert in enumerate(slots)])
    routing = routing_to(experts_TK)
    return (rows.unflatten(0, routing.ids_TK.shape) * routing.weights_TK.double().unsqueeze(-1)).sum(1)


def assert_near(found, right, tolerance: float):
    assert (found.double() - right).abs().max() <= tolerance * right.abs().max()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("format", FORMATS)
def test_first_product(found, format, case):
    assert_near(found[format, case]["h"], right_h(activations_of(case), CASES[case], format), TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("format", FORMATS)
def test_second_product_and_sum(found, format, case):
    result = found[format, case]
    assert_near(result["y"], right_y(result["h"], CASES[case], format), TOLERANCE)


@pytest.mark.parametrize("case", ["one-token", "one-expert-without-tokens"])
@pytest.mark.parametrize("format", FORMATS)
def test_the_whole_is_its_stages(found, format, case):
    assert torch.equal(found[format, case]["whole"], found[format, case]["y"])


def test_few_tokens_split_the_reduction(found):
    assert found["nvfp4", "one-token"]["shares"] == 2


@pytest.mark.parametrize("format", FORMATS)
def test_bfloat16_in_bfloat16_out(found, format):
    result, x = found[format, "bfloat16"], activations_of("all-mixed").to(torch.bfloat16)
    assert result["y"].dtype == result["h"].dtype == torch.bfloat16
    assert_near(result["h"], right_h(x, CASES["all-mixed"], format), BF16_TOLERANCE)
    assert_near(result["y"], right_y(result["h"].float(), CASES["all-mixed"], format), BF16_TOLERANCE)


@pytest.mark.parametrize("format", FORMATS)
def test_a_token_with_nan_or_inf_gives_nan_and_no_other_token_changes(found, format):
    broken, whole = found[format, "nan"]["y"], found[format, "all-mixed"]["y"]
    assert broken[[4, 7]].isnan().all()
    others = [token for token in range(len(whole)) if token not in (4, 7)]
    assert torch.equal(broken[others], whole[others])


def test_no_tokens():
    packed, routing = w4a4.pack(*weights("nvfp4")), route(torch.empty(0, EXPERTS), 2)
    assert w4a4.experts(torch.empty(0, HIDDEN), packed, routing, "nvfp4").shape == (0, HIDDEN)


@pytest.mark.parametrize(
    ("x", "activations", "message"),
    [
        pytest.param(torch.ones(1, HIDDEN), "mxfp4", "activations must be nvfp4", id="other-activations"),
        pytest.param(torch.ones(1, 2 * HIDDEN), "nvfp4", r"x must be float32 or bfloat16 \[T, 128\]", id="hidden"),
        pytest.param(torch.ones(1, HIDDEN).half(), "nvfp4", "x must be float32 or bfloat16", id="float16"),
    ],
)
def test_what_does_not_fit_is_refused(x, activations, message):
    with pytest.raises(FormatError, match=message):
        w4a4.experts(x, w4a4.pack(*weights("nvfp4")), routing_to([[0]]), activations)
