"""Tuned tables: found by GPU name, formats and shape; a damaged one is refused; the shipped ones name rows that exist."""

import json

import pytest

from fp4moe.errors import SelectionError
from fp4moe.select import NAMES, MoeShape, find_tuned
from fp4moe.select.tuned import all_tuned, parse_tuned

MIXTRAL = MoeShape(4096, 14336, 8, 2)
ENTRY = {
    "weights": "nvfp4", "activations": "bf16", "hidden": 4096, "intermediate": 14336, "num_experts": 8, "top_k": 2,
    "crossovers": [{"max_tokens": 32, "name": "few"}, {"max_tokens": None, "name": "many"}],
    "measured": {"microseconds": {"few": {"1": 60.1}}, "record": "results/baselines/kernels/h200.jsonl"},
    "own_sources_sha256": {"few": "ab"},
}  # fmt: skip


def parsed(gpu="H200", **changes):
    return parse_tuned(json.dumps({"gpu": gpu, "entries": [ENTRY | changes]}), "h200.json")


def test_an_entry_is_read_whole():
    (entry,) = parsed()
    assert (entry.gpu, entry.weights, entry.activations, entry.shape) == ("H200", "nvfp4", "bf16", MIXTRAL)
    assert entry.crossovers == ((32, "few"), (None, "many"))
    assert entry.record == "results/baselines/kernels/h200.jsonl" and entry.own_sources_sha256 == {"few": "ab"}


@pytest.mark.parametrize(
    ("gpu", "reported", "is_found"),
    [
        pytest.param("H200", "NVIDIA H200", True, id="word-of-the-name"),
        pytest.param("H200", "H200", True, id="table-name"),
        pytest.param("A100", "NVIDIA A100-SXM4-80GB", True, id="words-part-at-dashes"),
        pytest.param("RTX 5090", "NVIDIA GeForce RTX 5090", True, id="two-words"),
        pytest.param("RTX 5090", "NVIDIA GeForce RTX 4090", False, id="one-of-two-words"),
        pytest.param("H200", "NVIDIA GH200 480GB", False, id="part-of-a-word"),
    ],
)
def test_a_gpu_is_found_by_whole_words(gpu, reported, is_found):
    assert (find_tuned(reported, "nvfp4", "bf16", MIXTRAL, table=parsed(gpu)) is not None) == is_found


@pytest.mark.parametrize(
    ("weights", "activations", "shape"),
    [
        pytest.param("mxfp4", "bf16", MIXTRAL, id="other-weights"),
        pytest.param("nvfp4", "fp8", MIXTRAL, id="other-activations"),
        pytest.param("nvfp4", "bf16", MoeShape(4096, 14336, 8, 1), id="other-shape"),
    ],
)
def test_what_was_not_measured_is_not_found(weights, activations, shape):
    assert find_tuned("H200", weights, activations, shape, table=parsed()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "h200.json: must be an object with gpu and entries", id="no-json"),
        pytest.param('{"entries": []}', "'gpu'", id="no-gpu"),
        pytest.param('{"gpu": "H200", "entries": [{}]}', r"entries\[0\]: lacks 'hidden'", id="no-shape"),
        pytest.param(
            '{"gpu": "H200", "entries": [{"weights": "nvfp4", "activations": "bf16", "hidden": 1, "intermediate": 1, '
            '"num_experts": 1, "top_k": 1, "crossovers": [], "measured": {"microseconds": {"a": {"few": 1}}}}]}',
            r"entries\[0\].measured: must hold microseconds by kernel and tokens",
            id="times-by-no-number",
        ),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(text, message):
    with pytest.raises(SelectionError, match=message):
        parse_tuned(text, "h200.json")


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param([], id="none"),
        pytest.param([32], id="nothing-for-more-tokens"),
        pytest.param([64, 32, None], id="descending"),
        pytest.param([32, 32, None], id="twice"),
        pytest.param([0, None], id="no-token"),
    ],
)
def test_crossovers_ascend_and_cover_any_number(limits):
    crossovers = [{"max_tokens": limit, "name": "few"} for limit in limits]
    with pytest.raises(SelectionError, match=r"h200.json: entries\[0\].crossovers: max_tokens must ascend"):
        parsed(crossovers=crossovers)


def test_shipped_tables_name_implementations_that_exist_and_one_entry_a_question():
    entries = all_tuned()
    assert {name for entry in entries for _, name in entry.crossovers} <= set(NAMES)
    questions = [(entry.gpu, entry.weights, entry.activations, entry.shape) for entry in entries]
    assert len(questions) == len(set(questions))
