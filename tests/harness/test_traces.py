"""Traces: the public formats are read, what is wrong in a file is named with its line, and too much of it is refused."""

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario.source import TraceSource
from harness.workload.traces import read_trace

MOONCAKE = Path("scenarios/traces/mooncake-conversation-sample.jsonl")
AZURE = Path("scenarios/traces/azure-conv-2023-sample.csv")
BURSTGPT_HEAD = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
AZURE_HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def read(path: Path, kind: str, num: int = 10_000, **cut):
    return read_trace(TraceSource(kind=kind, path=str(path), **cut), num)


def written(tmp_path, text: str) -> Path:
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    return path


def mooncake_line(time_ms: object = 0, prompt: object = 10, output: object = 5, **more) -> str:
    import json

    return json.dumps({"timestamp": time_ms, "input_length": prompt, "output_length": output, "hash_ids": []} | more) + "\n"


def test_mooncake_sample():
    trace = read(MOONCAKE, "mooncake")
    assert len(trace.rows) == 200 and not trace.problems
    first = trace.rows[0]
    assert (first.time_s, first.prompt_tokens, first.output_tokens, first.hash_ids) == (0.0, 6758, 500, tuple(range(14)))
    assert trace.rows[-1].time_s == 72.0


def test_azure_sample():
    trace = read(AZURE, "azure")
    assert len(trace.rows) == 1000 and not trace.problems
    second = trace.rows[1]
    # 18:15:46.6805900 to 18:15:50.9951690, seven digits of a second.
    assert second.time_s == pytest.approx(4.314579, abs=1e-6) and (second.prompt_tokens, second.output_tokens) == (396, 109)


def test_azure_2024_has_a_time_zone(tmp_path):
    rows = "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,2399,6\n"
    trace = read(written(tmp_path, AZURE_HEAD + rows), "azure")
    assert trace.rows[1].time_s == pytest.approx(0.990070, abs=1e-6)


def test_burstgpt(tmp_path):
    rows = "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n"
    trace = read(written(tmp_path, BURSTGPT_HEAD + rows), "burstgpt")
    assert [(r.time_s, r.prompt_tokens, r.output_tokens) for r in trace.rows] == [(5.0, 472, 18), (45.0, 1087, 230)]


def test_cut_by_time_and_number():
    trace = read(AZURE, "azure", start_s=60.0, duration_s=30.0)
    assert trace.rows and all(60 <= row.time_s < 90 for row in trace.rows)
    assert len(read(AZURE, "azure", num=7).rows) == 7


def test_long_requests_are_cut_and_counted():
    trace = read(MOONCAKE, "mooncake", max_prompt_tokens=1000, max_output_tokens=50)
    assert max(r.prompt_tokens for r in trace.rows) == 1000 and max(r.output_tokens for r in trace.rows) == 50
    whole = read(MOONCAKE, "mooncake").rows
    assert trace.num_cut == sum(r.prompt_tokens > 1000 or r.output_tokens > 50 for r in whole)


def test_rows_out_of_order_are_sorted_and_counted(tmp_path):
    trace = read(written(tmp_path, mooncake_line(2000) + mooncake_line(1000) + mooncake_line(3000)), "mooncake")
    assert [row.time_s for row in trace.rows] == [1.0, 2.0, 3.0] and trace.num_unsorted == 1


BAD_LINES = [
    pytest.param('{"timestamp": 0, "input_le', "not JSON, perhaps cut off", id="truncated"),
    pytest.param("[1, 2]\n", "must be a JSON object", id="not-an-object"),
    pytest.param('{"timestamp": 1}\n', "lacks input_length", id="key-missing"),
    pytest.param(mooncake_line(-5), r"time must not be negative \(got -0.005 s\)", id="negative-time"),
    pytest.param(mooncake_line("soon"), r"timestamp must be a number \(got 'soon'\)", id="time-not-a-number"),
    pytest.param(mooncake_line(float("nan")), "timestamp must be a number", id="nan"),
    pytest.param(mooncake_line(0, 0), r"prompt tokens must be a whole number from 1 \(got 0\)", id="empty-prompt"),
    pytest.param(mooncake_line(0, 10, 2.5), "output tokens must be a whole number", id="half-a-token"),
    pytest.param(mooncake_line(0, True), "prompt tokens must be a number", id="boolean"),
    pytest.param(mooncake_line(0, hash_ids=["a"]), "hash_ids must be a list of whole numbers", id="bad-hashes"),
]


@pytest.mark.parametrize(("line", "rule"), BAD_LINES)
def test_one_bad_row_is_left_out_and_named_with_its_line(tmp_path, line, rule):
    path = written(tmp_path, mooncake_line(1) * 3 + line)
    trace = read(path, "mooncake")
    assert len(trace.rows) == 3 and len(trace.problems) == 1
    place, message = trace.problems[0].split(": ", 1)
    assert place == f"{path}:4"
    with pytest.raises(AssertionError, match=rule):
        raise AssertionError(message)


def test_more_than_a_hundredth_of_bad_rows_is_refused(tmp_path):
    good, bad = mooncake_line(1) * 197, mooncake_line(-1)
    assert len(read(written(tmp_path, good + bad), "mooncake").problems) == 1
    with pytest.raises(ScenarioError, match="3 of 200 rows cannot be used") as caught:
        read(written(tmp_path, good + bad * 3), "mooncake")
    assert "trace:198: time must not be negative" in str(caught.value)


def test_truncated_csv_row(tmp_path):
    path = written(tmp_path, AZURE_HEAD + "2023-11-16 18:15:46.68,374,44\n2023-11-16 18:1")
    assert read(path, "azure").problems == (f"{path}:3: has too few columns, perhaps cut off",)


def test_csv_row_cut_inside_a_date(tmp_path):
    path = written(tmp_path, AZURE_HEAD + "2023-11-16 18:15:46.68,374,44\n2023-11-,3,4")
    assert "TIMESTAMP must be a date and time (got '2023-11-')" in read(path, "azure").problems[0]


@pytest.mark.parametrize(
    ("text", "kind", "rule"),
    [
        pytest.param("a,b\n1,2\n", "azure", "lacks the column 'TIMESTAMP' .has a, b.", id="other-columns"),
        pytest.param("", "burstgpt", "lacks the column 'Timestamp'", id="empty-csv"),
        pytest.param("", "mooncake", "no row of this mooncake trace lies in the cut", id="empty-jsonl"),
        pytest.param(AZURE_HEAD, "azure", "no row of this azure trace", id="head-alone"),
    ],
)
def test_files_that_are_no_trace(tmp_path, text, kind, rule):
    with pytest.raises(ScenarioError, match=rule):
        read(written(tmp_path, text), kind)


def test_a_cut_beyond_the_end_is_refused():
    with pytest.raises(ScenarioError, match="start_s 1e.06"):
        read(AZURE, "azure", start_s=1e6)


def test_not_text(tmp_path):
    path = tmp_path / "trace"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match="cannot be read as a mooncake trace"):
        read(path, "mooncake")
