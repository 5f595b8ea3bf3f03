"""YAML that is broken, or too much: refused with its line before it is built, and quickly."""

import time
from pathlib import Path

import pytest

from harness.errors import ScenarioError, UsageError
from harness.scenario.load import MAX_BYTES, load_scenario
from harness.scenario.override import parse_override
from harness.scenario.positions import MAX_DEPTH, MAX_VALUES, parse_yaml

LIMIT_S = 5.0


def bomb(line: str, levels: int = 30) -> str:
    """`levels` anchors, each of which names the one before it ten times."""
    lines = ["a0: &a0 {x: 1}"]
    return "\n".join(lines + [line.format(level, ", ".join([f"*a{level - 1}"] * 10)) for level in range(1, levels)])


REFUSED = [
    pytest.param(bomb("a{0}: &a{0} [{1}]"), "more than 10000 values", id="aliases-in-lists"),
    pytest.param(bomb("a{0}: &a{0} {{<<: [{1}]}}"), "more than 10000 values", id="aliases-in-merges"),
    pytest.param("a: &a [*a]", "nested more than 32 levels", id="alias-of-itself"),
    pytest.param("a: " + "[" * 50 + "]" * 50, ":1: nested more than 32 levels", id="fifty-levels"),
    pytest.param("a: " + "[" * 50_000, "nested more than 32 levels", id="beyond-the-stack"),
    pytest.param("a: 1\nb: " + "9" * 5000, ":2: not valid YAML: not a int (Exceeds the limit", id="five-thousand-digits"),
    pytest.param("a: 1\n\nb: 0x" + "f" * 9000, ":3: not valid YAML: an integer of 36000 bits", id="hexadecimal"),
    pytest.param("a: 1\nb: 2026-99-99", ":2: not valid YAML: not a timestamp", id="no-such-day"),
    pytest.param("a: 1\nb: !!bool maybe", ":2: not valid YAML: not a bool", id="neither-yes-nor-no"),
    pytest.param("a: 1\nb: !!python/object/apply:os.getcwd []", ":2: not valid YAML", id="code"),
    pytest.param("a: 1\nb: x\x07", ":2: not valid YAML: character U+0007", id="control-character"),
    pytest.param("a: 1\n? [b]\n: c", ":2: (the whole file): a key must be text (got a sequence)", id="list-for-a-key"),
    pytest.param("a: {b: 1,\n  b: 2}", ":2: a.b: key given twice", id="key-twice-below"),
]


@pytest.mark.parametrize(("text", "rule"), REFUSED)
def test_refused_with_its_line_in_no_time(text, rule):
    started = time.monotonic()
    with pytest.raises(ScenarioError) as caught:
        parse_yaml(text, "x.yaml")
    assert time.monotonic() - started < LIMIT_S
    message = str(caught.value)
    assert rule in message and message.startswith("x.yaml:") and len(message) < 500


def test_anchors_that_save_typing_are_fine():
    data, positions = parse_yaml("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\n", "x.yaml")
    assert data == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}
    assert positions.place(("d", "e")) == "x.yaml:3"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: [" + "1, " * (MAX_VALUES - 4) + "1]", id="as-many-values-as-allowed"),
        pytest.param("a: " + "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2), id="as-deep-as-allowed"),
    ],
)
def test_the_limits_themselves_are_allowed(text):
    assert "a" in parse_yaml(text, "x.yaml")[0]


def test_file_larger_than_a_scenario_can_be(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("# " + "x" * MAX_BYTES)
    with pytest.raises(ScenarioError, match=r"x.yaml:1: larger than a scenario can be \(256 KiB\)"):
        load_scenario(path)


def test_endless_file_is_not_read_to_its_end():
    with pytest.raises(ScenarioError, match="larger than a scenario can be"):
        load_scenario(Path("/dev/zero"))


def test_text_that_is_not_utf_8_has_a_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"name: a\ndescription: caf\xe9\n")
    with pytest.raises(ScenarioError, match=r"x.yaml:2: must be UTF-8 text \(got byte 0xe9\)"):
        load_scenario(path)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("seed=" + "9" * 5000, "not valid YAML", id="five-thousand-digits"),
        pytest.param("seed=" + "[" * 5000, "nested more than 32 levels", id="beyond-the-stack"),
    ],
)
def test_value_on_the_command_line_that_is_too_much(text, rule):
    with pytest.raises(UsageError, match=rule) as caught:
        parse_override(text)
    assert len(str(caught.value)) < 400


def test_superscript_two_is_no_index():
    assert parse_override("a.\u00b2=1") == (("a", "\u00b2"), 1)
