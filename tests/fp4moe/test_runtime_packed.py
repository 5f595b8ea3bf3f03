"""A model on a packed layout: rows given up, same hash, honest memory, a call goes by its tokens, the check still works."""

import pytest
import torch

import reversed_layout
from fp4moe.errors import FormatError, SelectionError
from fp4moe.layouts import RowExperts
from fp4moe.precision import Precision
from fp4moe.quantize import quantize_weight
from fp4moe.runtime import MixtralConfig, RandomWeights, check_moe_layer, checked_tokens, load, load_model
from fp4moe.select import Capability, Implementation, MoeShape, choose_by_tokens
from fp4moe.select.conditions import AnyDevice
from fp4moe.select.table import IMPLEMENTATIONS

CONFIG = MixtralConfig(
    vocab_size=97, hidden_size=64, intermediate_size=128, num_layers=2,
    num_heads=4, num_kv_heads=2, head_dim=16, num_experts=4, top_k=2, max_positions=256,
)  # fmt: skip
SHAPE = MoeShape(64, 128, 4, 2)
NVFP4 = Precision("nvfp4", "absmax", "bf16")
FEW_TOKENS = 5


def row(name, pack="pack", **more):
    target = f"reversed_layout:{name}"
    args = ("experts", name, ("nvfp4",), ("bf16",), (AnyDevice(),), target)
    return Implementation(*args, layout="reversed", pack=f"reversed_layout:{pack}", **more)


def packed_model(monkeypatch, *, pack="pack", implementation=None, **more):
    table = (row("few", pack, max_slots=2 * FEW_TOKENS), row("many", pack), *IMPLEMENTATIONS)
    choices = tuple(
        choose_by_tokens(op, "nvfp4", "bf16", Capability("cpu"), shape=SHAPE, table=table, implementation=implementation)
        for op in ("route", "experts")
    )
    monkeypatch.setattr(load, "choose_here", lambda *args, **named: choices)
    reversed_layout.calls.clear()
    return load_model(RandomWeights(CONFIG, 3), NVFP4, **more)


@pytest.fixture(scope="module")
def stored():
    return load_model(RandomWeights(CONFIG, 3), NVFP4)


def test_rows_are_not_kept_beside_the_packed_layout(monkeypatch):
    model = packed_model(monkeypatch)
    assert [layer.experts.layout for layer in model.weights.layers] == ["reversed", "reversed"]
    assert [layer.rows for layer in model.weights.layers] == [None, None]


def test_the_hash_is_that_of_the_stored_rows(monkeypatch, stored):
    assert packed_model(monkeypatch).weights_sha256 == stored.weights_sha256


def test_memory_is_what_is_held_padding_included(monkeypatch, stored):
    model = packed_model(monkeypatch)
    held = sum(tensor.nbytes for _, tensor in model.weights.named_tensors())
    padding = CONFIG.num_layers * CONFIG.num_experts * reversed_layout.PADDING_BYTES
    assert sum(model.memory_bytes().values()) == held == sum(stored.memory_bytes().values()) + padding
    assert model.memory_bytes() == stored.memory_bytes() | {"expert_codes": stored.memory_bytes()["expert_codes"] + padding}


def test_each_call_takes_the_implementation_for_its_tokens_and_gives_the_same_bits(monkeypatch, stored):
    model = packed_model(monkeypatch)
    for tokens in (1, FEW_TOKENS, FEW_TOKENS + 1, 40):
        x_TD = torch.randn(tokens, 64, generator=torch.Generator().manual_seed(tokens))
        assert torch.equal(model.moe(1, x_TD), stored.moe(1, x_TD))
    assert reversed_layout.calls == [("few", 1), ("few", FEW_TOKENS), ("many", FEW_TOKENS + 1), ("many", 40)]


def test_a_row_forced_beyond_its_limit_is_called_in_pieces(monkeypatch, stored):
    model = packed_model(monkeypatch, implementation="few")
    x_TD = torch.randn(2 * FEW_TOKENS + 1, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.moe(0, x_TD), stored.moe(0, x_TD)), "up to 32 rows have the same bits in any batch"
    assert reversed_layout.calls == [("few", FEW_TOKENS), ("few", FEW_TOKENS), ("few", 1)]
    assert checked_tokens(model, 3) == (3, FEW_TOKENS + 3)


def test_a_packed_layer_is_checked_against_its_kept_rows(monkeypatch):
    model = packed_model(monkeypatch, keep_rows=(1,))
    assert model.weights.layers[1].rows.layout == "rows" and model.weights.layers[0].rows is None
    assert checked_tokens(model, 3) == (3, FEW_TOKENS + 3)
    for tokens in checked_tokens(model, 3):
        check = check_moe_layer(model, 1, torch.randn(tokens, 64, generator=torch.Generator().manual_seed(tokens)))
        assert check.passed and check.tokens == tokens
    assert [name for name, _ in reversed_layout.calls] == ["few", "many"]


def test_a_packed_layer_whose_rows_were_not_kept_cannot_be_checked_and_says_what_to_do(monkeypatch):
    model = packed_model(monkeypatch)
    with pytest.raises(SelectionError, match=r"layer 1: .* packed as reversed .* keep_rows=\(1,\)"):
        check_moe_layer(model, 1, torch.ones(3, 64))


def test_kept_rows_do_not_change_a_model_of_stored_rows(stored):
    model = load_model(RandomWeights(CONFIG, 3), NVFP4, keep_rows=(0, 1))
    assert all(layer.kept_rows is None for layer in model.weights.layers)
    assert model.memory_bytes() == stored.memory_bytes()


def test_a_layer_that_cannot_be_packed_is_named_with_a_way_out(monkeypatch):
    with pytest.raises(FormatError, match="layer 0 experts: reversed: needs one .*; choose .* kernels.implementation=NAME"):
        packed_model(monkeypatch, pack="refuse")


PACKED = [
    pytest.param(row, format, id=f"{row.layout}-{format}")
    for row in {row.pack: row for row in IMPLEMENTATIONS if row.pack}.values()
    for format in row.weight_formats
]


@pytest.mark.parametrize(("real_row", "format"), PACKED)
def test_each_layout_of_the_table_has_what_the_runtime_asks_for(real_row, format):
    if "triton" in real_row.needs:
        pytest.importorskip("triton", reason="the layout's module imports triton, which is not installed")
    shapes = (3, 2 * 256, 128), (3, 128, 256)
    rows = RowExperts(*(quantize_weight(torch.ones(shape), format) for shape in shapes))
    packed = real_row.load_pack()(rows.gate_up, rows.down)
    assert packed.layout == real_row.layout
    assert (packed.num_experts, packed.hidden, packed.intermediate) == (3, 128, 256)
    held = sum(tensor.nbytes for tensor in packed.tensors().values())
    stored = sum(rows.nbytes().values())
    num_rows = sum(shape[0] * shape[1] for shape in shapes)
    # The same codes and block scales; a layout may hold one float32 scale a row, and no padding at whole chunks of 128.
    assert stored - rows.nbytes()["tensor_scales"] <= held <= stored + 4 * num_rows
