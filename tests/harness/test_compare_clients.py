"""Imported runs beside ours: what is set beside what, what may be judged, what is refused and why."""

from pathlib import Path

import pytest

from gate_runs import WORKLOAD, records, timed, write_run
from harness.compare import compare_runs
from harness.compare.pairing import NotComparableError
from harness.compare.rules import make_rules, parse_metric
from harness.exchange import aiperf_read, vllm_bench_read
from harness.exchange.imported import Described
from harness.exchange.imported import write_run as write_imported

DATA = Path(__file__).parent / "data" / "exchange"
AIPERF = DATA / "aiperf-0.13.0-closed" / "profile_export_aiperf.json"
FORMATS = {"weights": "nvfp4", "activations": "bf16", "target": "NVIDIA H100"}
C4 = WORKLOAD | {"name": "c4", "output_tokens": 16, "num_requests": 40, "arrival": {"kind": "closed", "concurrency": 4}}


@pytest.fixture
def ours(tmp_path):
    return write_run(tmp_path / "ours", records(timed(), workload=C4))


def imported(folder: Path, reader, path: Path, **described) -> Path:
    return write_imported(reader.read(path), Described(**(FORMATS | described)), folder, [path])


def test_the_same_load_is_compared_whatever_the_names(ours, tmp_path):
    found = compare_runs([ours, imported(tmp_path / "theirs", aiperf_read, AIPERF)])
    (result,) = found.results
    assert (result.pair.a.workload, result.pair.b.workload) == ("c4", "32in-16out-c4") and not found.unpaired
    assert [item.median_b for item in result.judgements] == pytest.approx([153.64, 79.83, 17.33], abs=0.0051)
    assert result.notes[0].startswith(
        "measured by harness and aiperf 0.13.0; comparable: request_throughput, output_throughput"
    )
    assert "theirs: aiperf's file names no machine, clocks or libraries, so none are compared" in found.notes
    assert not [row for row in found.differences if row.group == "machine"]


def test_what_is_not_comparable_is_refused_by_name_and_shown(ours, tmp_path):
    """A closed load read from the mock's file: a closing chunk for each request."""
    import json

    data = json.loads((DATA / "vllm-0.32.0-closed.json").read_text())
    data["itls"] = [[*gaps, 0.0] for gaps in data["itls"]]
    (tmp_path / "chunks.json").write_text(json.dumps(data))
    theirs = imported(tmp_path / "theirs", vllm_bench_read, tmp_path / "chunks.json", tool_version="0.32.0")
    (result,) = compare_runs([ours, theirs]).results
    throughput, ttft, itl = result.judgements
    assert (
        itl.verdict == "not judged" and itl.reason == "vllm-bench pooled 640 gaps between chunks where 600 are between tokens"
    )
    assert itl.median_b is not None and itl.ratio is None
    assert throughput.verdict != "not judged" and ttft.verdict != "not judged"
    assert "*_itl_ms" not in result.notes[0] and result.notes[1] == f"not comparable: *_itl_ms: {itl.reason}"


def test_two_runs_of_one_client_share_its_definitions(tmp_path):
    path = DATA / "vllm-0.32.0-open-failed.json"
    sides = [imported(tmp_path / name, vllm_bench_read, path) for name in "ab"]
    (result,) = compare_runs(sides).results
    assert all("pooled" not in item.reason for item in result.judgements)


def test_two_clients_are_compared_with_each_other(tmp_path):
    rules = make_rules([parse_metric("median_tpot_ms")])
    a, b = (
        imported(tmp_path / "a", aiperf_read, AIPERF),
        imported(tmp_path / "b", vllm_bench_read, DATA / "vllm-0.32.0-closed.json"),
    )
    (result,) = compare_runs([a, b], rules=rules).results
    assert result.judgements[0].ratio == pytest.approx(20.90 / 19.44, rel=1e-3)  # both to two digits


@pytest.mark.parametrize(
    ("change", "described", "said"),
    [
        pytest.param({"num_requests": 80}, {}, "workload.num_requests is 80 in ours and 40 in theirs", id="other-count"),
        pytest.param(
            {"arrival": {"kind": "poisson", "rate_per_s": 4.0}},
            {},
            'arrival.kind is "poisson" in ours and "closed"',
            id="open-loop",
        ),
        pytest.param({}, {"weights": "unknown"}, "import it with --weights and --activations", id="format-not-said"),
        pytest.param({}, {"model": "other"}, 'model is "pocket-mixtral" in ours and "other" in theirs', id="other-model"),
    ],
)
def test_another_load_is_not_compared_and_says_what_differs(tmp_path, change, described, said):
    ours = write_run(tmp_path / "ours", records(timed(), workload=C4 | change))
    theirs = imported(tmp_path / "theirs", aiperf_read, AIPERF, **described)
    with pytest.raises(NotComparableError) as refused:
        compare_runs([ours, theirs])
    assert said in str(refused.value) and "nothing of the same load; nearest is pocket-mixtral/native/" in str(refused.value)


def test_our_own_limit_of_slots_is_no_part_of_the_load(tmp_path):
    arrival = {"kind": "gamma", "rate_per_s": 30.0, "burstiness": 0.5, "max_concurrency": 8}
    workload = C4 | {"prompt_tokens": 18, "arrival": arrival | {"max_slots": 64}}
    ours = write_run(tmp_path / "ours", records(timed(), workload=workload))
    path = DATA / "aiperf-0.13.0-open-failed" / "profile_export_aiperf.json"
    (result,) = compare_runs([ours, imported(tmp_path / "theirs", aiperf_read, path, model="pocket-mixtral")]).results
    assert [item.verdict == "not judged" for item in result.judgements] == [False, True, False]  # TTFT counts from sending
