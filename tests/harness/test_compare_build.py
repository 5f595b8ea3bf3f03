"""Which cells are compared, what is said of those that are not, what differs, and how long 10 000 records take."""

import json
import time

import pytest

from gate_runs import HELDOUT, HOST, heldout, record, records, repeats, timed, write_run
from harness.compare import compare_runs
from harness.compare.data import data
from harness.compare.pairing import NotComparableError
from harness.errors import RunFolderError, UsageError

H200 = {"kind": "h200", "name": "NVIDIA H200"}


def two_runs(tmp_path, old, new, **options):
    return [write_run(tmp_path / "old", old), write_run(tmp_path / "new", new, **options)]


def test_machines_are_compared_and_what_differs_is_listed(tmp_path):
    far = HOST | {"host": "elsewhere", "gpus": [{"name": "H200"}], "libraries": {"torch": "3.0"}, "clocks": {"sm_mhz": 1980}}
    runs = two_runs(tmp_path, records(timed()), records(timed(0.8), target=H200), host=far)
    found = compare_runs(runs)
    assert [j.verdict for j in found.results[0].judgements] == ["better"] * 3
    groups = {row.name: row.group for row in found.differences}
    assert groups["host"] == groups["gpu.name"] == "machine"
    assert groups["libraries.torch"] == "software" and groups["clocks.sm_mhz"] == "clocks"
    assert "cpu.num_cores" not in groups


def test_clocks_that_telemetry_saw_are_listed(tmp_path):
    def rows(mhz):
        clock = {"median_sm_clock_mhz": {"value": mhz, "unit": "MHz", "n": 9, "reason": None}}
        return records(timed(), extra_metrics=clock)

    (row,) = compare_runs(two_runs(tmp_path, rows(1980.0), rows(1410.0))).differences
    assert (row.group, row.name, row.values) == ("clocks", "median_sm_clock_mhz", ("1980 MHz", "1410 MHz"))
    assert not compare_runs(two_runs(tmp_path, rows(1980.0), rows(1983.0))).differences


def test_target_is_not_part_of_what_a_cell_asks(tmp_path):
    runs = two_runs(tmp_path, records(timed()), records(timed(), target=H200))
    assert not compare_runs(runs).unpaired


@pytest.mark.parametrize(
    ("new", "words"),
    [
        pytest.param(records(timed(), weights_sha256="cd" * 32), "the weights are other ones", id="weights"),
        pytest.param(
            records(timed(), workload=record({})["workload"] | {"output_tokens": 64}),
            "workload.output_tokens is 32",
            id="workload",
        ),
        pytest.param(records(timed(), precision="mxfp4"), "no cell of this model", id="precision"),
    ],
)
def test_runs_of_different_scenarios_are_refused_and_named(tmp_path, new, words):
    with pytest.raises(NotComparableError, match=words) as refused:
        compare_runs(two_runs(tmp_path, records(timed()), new))
    assert refused.value.exit_code == 4


def test_seed_is_part_of_what_a_cell_asks(tmp_path):
    runs = two_runs(tmp_path, records(timed()), records(timed()), scenario={"name": "gate", "repeats": 10, "seed": 1})
    with pytest.raises(NotComparableError, match="seed is 0 in old and 1 in new"):
        compare_runs(runs)


def test_a_key_that_an_older_version_did_not_know_is_no_difference(tmp_path):
    new = records(timed(), workload=record({})["workload"] | {"added_later": 3})
    assert len(compare_runs(two_runs(tmp_path, records(timed()), new)).results) == 1


def test_across_precisions_of_one_run(tmp_path):
    rows = [
        *records(timed(), precision="bf16"),
        *records(timed(0.5)),
        heldout(20.0, precision="bf16", weights_sha256="00" * 32),
        heldout(20.2, weights_sha256="11" * 32),
    ]
    found = compare_runs([write_run(tmp_path / "run", rows)])
    assert found.across == "precision" and len(found.results) == 2
    by_workload = {result.pair.b.workload: result for result in found.results}
    assert {j.verdict for j in by_workload["single"].judgements} == {"better"}
    perplexity = next(c for c in by_workload["heldout"].exact if c.metric == "perplexity")
    assert perplexity.verdict == "worse" and perplexity.ratio == pytest.approx(1.01)


def test_speed_of_the_reference_is_not_set_against_another_precision(tmp_path):
    rows = [*records(timed(), precision="bf16", chosen="reference"), *records(timed(2), chosen="reference")]
    (result,) = compare_runs([write_run(tmp_path / "run", rows)]).results
    assert {j.verdict for j in result.judgements} == {"not judged"} and "not FP4's speed" in result.judgements[0].reason


def test_interleaved_runs_are_judged_in_pairs(tmp_path):
    load = (1.0, 2.0, 1.1, 3.0, 1.0, 1.5, 2.5, 1.2, 1.0, 2.2)
    old = write_run(tmp_path / "old", records(timed(shape=load)), interleaved={"with": "new"})
    shifted = tuple(factor * steady for factor, steady in zip(load, repeats(1.1), strict=True))
    new = write_run(tmp_path / "new", records(timed(shape=shifted)), interleaved={"with": "old"})
    (result,) = compare_runs([old, new]).results
    itl = next(j for j in result.judgements if j.metric == "median_itl_ms")
    assert itl.is_paired and itl.verdict == "worse"


def test_one_side_missing_a_metric_is_named(tmp_path):
    new = {name: values for name, values in timed().items() if name != "median_ttft_ms"}
    (result,) = compare_runs(two_runs(tmp_path, records(timed()), records(new))).results
    ttft = next(j for j in result.judgements if j.metric == "median_ttft_ms")
    assert ttft.verdict == "not judged" and "not in the record" in ttft.reason


def test_unfinished_run_is_named(tmp_path):
    plan = [{"cell_id": "x/y/z/heldout/cpu", "workload": HELDOUT}]
    runs = two_runs(tmp_path, records(timed()), records(timed()), planned=plan)
    assert any("not finished" in note and "x/y/z" in note for note in compare_runs(runs).notes)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        pytest.param('{"cell_id": "x"}\n', ":1: not a record", id="not-a-record"),
        pytest.param('{"cell_id": "x\n{}\n', ":1: not valid JSON", id="damaged-in-the-middle"),
        pytest.param(
            json.dumps(record({}) | {"schema_version": 9}) + "\n", ":1: schema version 9", id="record-of-other-version"
        ),
    ],
)
def test_damaged_records_are_refused_with_their_line(tmp_path, content, word):
    runs = two_runs(tmp_path, records(timed()), records(timed()))
    (runs[1] / "records.jsonl").write_text(content)
    with pytest.raises(RunFolderError, match=word):
        compare_runs(runs)


def test_one_run_twice_is_one_run(tmp_path):
    run = write_run(tmp_path / "run", records(timed()))
    with pytest.raises(UsageError, match="at least two different"):
        compare_runs([run, run], across="run")


def test_json_has_no_nan_and_counts_verdicts(tmp_path):
    found = data(compare_runs(two_runs(tmp_path, records(timed()), records(timed(1.2)))))
    text = json.dumps(found, allow_nan=False)
    assert found["verdicts"]["worse"] == 3 and '"slowdown": 1.2' in text


def test_ten_thousand_records_in_under_five_seconds(tmp_path):
    """Processor time, since other work may share the machine; 1000 cells of 5 repeats on each of two runs."""
    rows = []
    for index in range(1000):
        workload = record({})["workload"] | {"name": f"w{index}"}
        rows += records({name: values[:5] for name, values in timed().items()}, workload=workload)
    runs = two_runs(tmp_path, rows, rows)
    started = time.process_time()
    found = compare_runs(runs)
    assert time.process_time() - started < 5
    assert sum(len(run.records) for run in found.runs) == 10_000 and len(found.results) == 1000


@pytest.mark.parametrize(("backend", "verdict"), [("native", "worse"), ("vllm", "not judged")])
def test_a_cache_that_is_a_share_of_the_gpu_is_not_judged(tmp_path, backend, verdict):
    def rows(num_bytes):
        cache = {"kv_cache_bytes": {"value": num_bytes, "unit": "bytes", "n": 1, "reason": None}}
        return [row | {"backend": backend} for row in records(timed(), extra_metrics=cache)]

    (result,) = compare_runs(two_runs(tmp_path, rows(45e9), rows(105e9))).results
    (cache,) = [change for change in result.exact if change.metric == "kv_cache_bytes"]
    assert (cache.verdict, cache.value_b) == (verdict, 105e9)
    assert ("share of the GPU's memory" in cache.reason) == (backend == "vllm")
