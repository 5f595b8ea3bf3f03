"""A whole run, from the command to the report, held against what a run's folder promises.

The same tests look at a run of a tiny random model (in the fast set) and of the shipped pocket-mixtral (slow).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

import harness
from commands import run_harness
from harness.metrics import METRICS
from harness.metrics.telemetry import TELEMETRY
from running import FINISHED
from scenario_files import scenario_data, write_scenario
from tiny_checkpoint import write_tiny

REPEATS, REQUESTS, OUTPUT_TOKENS, PROMPT_TOKENS, SCORED, KL_TOKENS = 2, 2, 4, 16, 512, 256
LATENCIES = [
    f"{name}_{kind}_ms"
    for kind in ("ttft", "tpot", "itl", "e2el")
    for name in ("mean", "median", "std", "p50", "p90", "p95", "p99")
]
MEMORY = [
    f"{n}_bytes"
    for n in ("expert_codes", "expert_scales", "expert_tensor_scales", "attention", "embedding", "router", "norm", "weight")
]
SPEED = [f"{name}_throughput" for name in ("prefill", "decode", "output", "total_token", "request")]
CHANGE = ["perplexity_change_pct", "perplexity_change_low_pct", "perplexity_change_high_pct"]
QUALITY = ["perplexity", "bits_per_byte", "mean_nll_nats", "num_scored_tokens", "mean_kl_nats", "top1_agreement_pct"]
# What a served load would have as well, from the steady window and the schedule.
SERVING = [name for name in METRICS if name.startswith("steady_")] + ["offered_rate", "p90_queue_ms", "failed_pct"]
GOODPUT = ["slo_attainment_pct", "request_goodput"]
REQUEST_METRICS = {
    *LATENCIES, *MEMORY, *SPEED, *SERVING, *GOODPUT, "kv_cache_bytes", "activation_peak_bytes", "process_peak_rss_bytes",
    "median_step_cpu_ms",
}  # fmt: skip
HELDOUT_METRICS = {*QUALITY, *CHANGE, *MEMORY, "process_peak_rss_bytes"}
RECORD_KEYS = {
    "schema_version", "cell_id", "model", "backend", "precision", "workload", "target", "repeat", "status", "error",
    "started_utc", "duration_s", "verdict", "implementation", "check", "weights", "metrics", "experts", "samples",
    "engine", "load", "sweep",
}  # fmt: skip
LAYER_KEYS = {"layer", "histogram", "max_over_mean", "cv", "gini", "entropy_bits", "active_per_step", "top2_share"}

REQUEST_METRICS |= {metric.name for metric in TELEMETRY}
HELDOUT_METRICS |= {"reserved_bytes", "allocator_slack_bytes", "graph_pool_bytes"}
RECORD_KEYS |= {"predicted_memory_bytes"}


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended, and what the command printed."""

    folder: Path
    scenario_file: Path
    summary: dict
    num_layers: int
    num_experts: int

    @property
    def info(self) -> dict:
        return json.loads((self.folder / "run.json").read_text())

    @property
    def records(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "records.jsonl").read_text().splitlines()]

    def of_kind(self, kind: str) -> list[dict]:
        return [record for record in self.records if record["workload"]["kind"] == kind]

    def table(self, record: dict, name: str):
        return parquet.read_table(self.folder / record["samples"][name])

    def routing(self, record: dict) -> dict[str, np.ndarray]:
        with np.load(self.folder / record["samples"]["routing"]) as arrays:
            return dict(arrays)


def tiny_scenario(folder: Path) -> Path:
    write_tiny(folder / "mine")
    return write_scenario(folder, scenario_data() | {"models": [{"name": "mine", "path": "mine"}], "repeats": REPEATS})


def pocket_scenario(folder: Path) -> Path:
    return write_scenario(folder, scenario_data() | {"repeats": REPEATS})


def run_to_the_end(scenario_file: Path, out: str, *options: str, code: int = 0) -> dict:
    folder = scenario_file.parent / out
    done = run_harness("run", scenario_file, "--out", folder, "--json", *options, cwd=scenario_file.parent)
    assert done.returncode == code, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


SHAPES = {"tiny": (tiny_scenario, 1, 4), "pocket-mixtral": (pocket_scenario, 5, 8)}


@pytest.fixture(scope="module", params=["tiny", pytest.param("pocket-mixtral", marks=pytest.mark.slow)])
def run(request, tmp_path_factory) -> Finished:
    write, num_layers, num_experts = SHAPES[request.param]
    scenario_file = write(tmp_path_factory.mktemp("run"))
    summary = run_to_the_end(scenario_file, "out")
    return Finished(scenario_file.parent / "out", scenario_file, summary, num_layers, num_experts)


def test_standard_output_is_one_summary_in_json(run):
    assert run.summary["folder"] == str(run.folder)
    assert (run.summary["num_records"], run.summary["num_failed"], run.summary["num_invalid"]) == (6, 0, 0)
    assert run.summary["exit_code"] == 0


def test_run_json_says_what_was_asked_and_where(run):
    info = run.info
    assert info["schema_version"] == 1 and info["run_id"] == "out" and info["scenario_name"] == "t"
    assert re.fullmatch(r"[0-9a-f]{64}", info["scenario_sha256"])
    assert info["started_utc"] <= info["finished_utc"]
    assert info["scenario"]["repeats"] == REPEATS and info["scenario"]["quality"]["max_tokens"] == SCORED
    assert len(info["plan"]["cells"]) == 4 and info["plan"]["dropped"] == []
    source = info["provenance"]
    assert source["cpu"]["name"] and source["cpu"]["num_cores"] >= 1 and source["seed"] == 0
    assert {"torch", "numpy", "safetensors"} <= set(source["libraries"])
    assert re.fullmatch(r"[0-9a-f]{64}", source["kernel_sources_sha256"])


def test_one_record_a_cell_and_repeat_bf16_first(run):
    expected = []
    for precision in ("bf16-a16", "nvfp4-search-a16"):
        expected += [(precision, "heldout", 0), *[(precision, "single", repeat) for repeat in range(REPEATS)]]
    assert [(r["precision"]["id"], r["workload"]["name"], r["repeat"]) for r in run.records] == expected
    assert {r["cell_id"] for r in run.records} == {cell["cell_id"] for cell in run.info["plan"]["cells"]}


def test_each_record_is_whole_checked_and_not_invalid(run):
    for record in run.records:
        assert set(record) == RECORD_KEYS
        assert record["status"] == "ok" and record["error"] is None and record["duration_s"] > 0
        assert record["verdict"]["state"] in ("VALID", "WARN"), record["verdict"]  # a busy machine earns a warning
        assert record["check"]["passed"] and record["check"]["relative_error"] <= record["check"]["bound"]
        assert [row["op"] for row in record["implementation"]] == ["route", "experts"]
        assert all(row["crossovers"] == [{"max_tokens": None, "name": "reference"}] for row in record["implementation"])
        assert [row["layout"] for row in record["implementation"]] == ["rows", "rows"]
        assert record["weights"]["source"] == "trained"


def test_each_metric_is_there_with_unit_and_count_and_null_has_a_reason(run):
    for kind, names in (("requests", REQUEST_METRICS), ("heldout", HELDOUT_METRICS)):
        for record in run.of_kind(kind):
            assert set(record["metrics"]) == names
            for name, metric in record["metrics"].items():
                assert metric["unit"] == METRICS[name].unit
                assert (metric["value"] is None) == bool(metric["reason"]), name
                assert metric["value"] is None or (metric["n"] >= 1 and np.isfinite(metric["value"])), name


def test_telemetry_covers_the_requests(run):
    """The same clock: readings lie before, among and after the steps."""
    for record in run.of_kind("requests"):
        times = run.table(record, "telemetry")["time_ns"].to_pylist()
        steps = run.table(record, "steps")
        assert times[0] < steps["start_ns"][0].as_py() and steps["end_ns"][-1].as_py() < times[-1]
        assert max(rss or 0 for rss in run.table(record, "telemetry")["rss_bytes"].to_pylist()) > 50_000_000


def test_speed_follows_from_the_samples(run):
    for record in run.of_kind("requests"):
        rows = run.table(record, "requests").to_pylist()
        assert [row["output_tokens"] for row in rows] == [OUTPUT_TOKENS] * REQUESTS
        assert [row["prompt_tokens"] for row in rows] == [PROMPT_TOKENS] * REQUESTS
        for row in rows:
            times = row["token_times_ns"]
            assert row["scheduled_ns"] <= row["submitted_ns"] < times[0] and times == sorted(times)
            assert row["ttft_ms"] == pytest.approx((times[0] - row["scheduled_ns"]) / 1e6)
        metrics = record["metrics"]
        assert metrics["mean_ttft_ms"]["value"] == pytest.approx(np.mean([row["ttft_ms"] for row in rows]))
        assert metrics["mean_ttft_ms"]["n"] == REQUESTS
        wall_s = (max(row["end_ns"] for row in rows) - min(row["submitted_ns"] for row in rows)) / 1e9
        assert metrics["output_throughput"]["value"] == pytest.approx(REQUESTS * OUTPUT_TOKENS / wall_s)
        assert metrics["p99_ttft_ms"]["value"] is None  # 2 requests cannot show a 99th percentile


def test_steps_are_every_prefill_and_decode_in_order(run):
    for record in run.of_kind("requests"):
        steps = run.table(record, "steps").to_pylist()
        assert [step["phase"] for step in steps] == (["prefill"] + ["decode"] * (OUTPUT_TOKENS - 1)) * REQUESTS
        assert all(step["start_ns"] < step["end_ns"] and 1 <= step["experts_hit"] <= run.num_experts for step in steps)


def test_quality_follows_from_the_token_nlls(run):
    for record in run.of_kind("heldout"):
        table = run.table(record, "token_nll")
        nll = table["nll_nats"].to_numpy().astype(np.float64)
        metrics = record["metrics"]
        assert len(nll) == SCORED == metrics["num_scored_tokens"]["value"]
        assert table["window"].to_numpy().max() + 1 == SCORED // 64
        assert metrics["mean_nll_nats"]["value"] == pytest.approx(nll.mean(), rel=1e-12)
        assert metrics["perplexity"]["value"] == pytest.approx(np.exp(nll.mean()), rel=1e-12)


def test_change_of_perplexity_has_an_interval_and_bf16_the_reason_for_none(run):
    baseline, other = run.of_kind("heldout")
    for name in (*CHANGE, "mean_kl_nats", "top1_agreement_pct"):
        assert baseline["metrics"][name]["value"] is None and "BF16 run" in baseline["metrics"][name]["reason"]
    change, low, high = (other["metrics"][name]["value"] for name in CHANGE)
    assert low < change < high
    ratio = other["metrics"]["perplexity"]["value"] / baseline["metrics"]["perplexity"]["value"]
    assert change == pytest.approx(100 * (ratio - 1), abs=1e-6)
    assert other["metrics"]["mean_kl_nats"]["value"] > 0 and other["metrics"]["mean_kl_nats"]["n"] == KL_TOKENS
    assert 50 < other["metrics"]["top1_agreement_pct"]["value"] < 100.0001
    assert other["metrics"]["top1_agreement_pct"]["n"] == SCORED


def test_expert_usage_counts_every_routed_token(run):
    for record in run.records:
        is_heldout = record["workload"]["kind"] == "heldout"
        block, routing = record["experts"], run.routing(record)
        counted = routing["phase"] == (2 if is_heldout else 1)
        num_tokens = SCORED if is_heldout else REQUESTS * (OUTPUT_TOKENS - 1)
        assert counted.sum() == num_tokens
        assert routing["expert_ids"].shape[1:] == (run.num_layers, 2) and routing["expert_ids"].max() < run.num_experts
        assert (block["num_experts"], block["top_k"], block["phase"]) == (
            run.num_experts,
            2,
            "score" if is_heldout else "decode",
        )
        assert [layer["layer"] for layer in block["layers"]] == list(range(run.num_layers))
        for layer in block["layers"]:
            assert set(layer) == LAYER_KEYS
            ids = routing["expert_ids"][counted][:, layer["layer"]]
            assert layer["histogram"] == np.bincount(ids.ravel(), minlength=run.num_experts).tolist()
        assert {row["policy"] for row in block["cache"]} == {"lru", "lfu", "belady"}
        assert all(0 <= row["hit_rate"] <= 1 and row["num_accesses"] > 0 for row in block["cache"])


def test_weights_are_the_same_within_a_precision_and_differ_between_them(run):
    hashes = {}
    for record in run.records:
        hashes.setdefault(record["precision"]["id"], set()).add(record["weights"]["sha256"])
    assert all(len(found) == 1 for found in hashes.values())
    assert len(set.union(*hashes.values())) == 2


def test_four_bit_experts_take_four_and_a_half_bits(run):
    bf16, nvfp4 = (record["metrics"] for record in run.of_kind("heldout"))
    num_weights = bf16["expert_codes_bytes"]["value"] / 2
    assert nvfp4["expert_codes_bytes"]["value"] == num_weights / 2
    assert nvfp4["expert_scales_bytes"]["value"] == num_weights / 16


def test_report_is_there_and_nothing_half_written_is_left(run):
    assert (run.folder / "report.html").stat().st_size > 10_000
    assert "NVFP4" in (run.folder / "report.md").read_text(encoding="utf-8")
    plots = list((run.folder / "plots").glob("*.png"))
    assert plots and all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)
    assert {path.name for path in run.folder.iterdir()} == FINISHED
    assert not list(run.folder.rglob("*.part"))
    named = {path for record in run.records for path in record["samples"].values()}
    assert named == {str(path.relative_to(run.folder)) for path in (run.folder / "samples").iterdir()}


def test_runs_as_a_table(run):
    table = harness.load_runs([run.folder])
    assert len(table) == 6 and set(table["run_id"]) == {"out"}
    assert not table.duplicated(["cell_id", "repeat"]).any()
    assert str(table["repeat"].dtype) == "Int64"
    for name in ("perplexity", "median_ttft_ms", "output_throughput"):
        assert str(table[name].dtype) == "Float64"
    assert str(table["precision"].dtype).startswith("str") and set(table["kind"]) == {"heldout", "requests"}
    assert table.loc[table["kind"] == "requests", "perplexity"].isna().all()
    assert (table.loc[table["kind"] == "heldout", "perplexity"] > 1).all()


@pytest.mark.slow
def test_resuming_a_finished_run_measures_nothing(run):
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.suffix in (".jsonl", ".parquet", ".npz")}
    summary = run_to_the_end(run.scenario_file, "out", "--resume")
    assert summary["num_records"] == 6
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_same_seed_gives_the_same_tokens_twice(run):
    run_to_the_end(run.scenario_file, "again")
    again = Finished(run.folder.with_name("again"), run.scenario_file, {}, run.num_layers, run.num_experts)
    for first, second in zip(run.records, again.records, strict=True):
        assert first["weights"] == second["weights"] and first["check"] == second["check"]
        for name, array in run.routing(first).items():
            np.testing.assert_array_equal(array, again.routing(second)[name])
        if first["workload"]["kind"] == "heldout":
            assert run.table(first, "token_nll").equals(again.table(second, "token_nll"))


def test_repeats_send_the_same_prompts(run):
    """Routing depends on every token of the prompt, so equal routing of the prefill stands for equal prompts."""
    first, second = run.of_kind("requests")[:REPEATS]
    np.testing.assert_array_equal(run.routing(first)["expert_ids"], run.routing(second)["expert_ids"])


@pytest.mark.slow
def test_only_then_resume_fills_in_the_rest_and_compares_it(tmp_path):
    scenario_file = tiny_scenario(tmp_path)
    assert run_to_the_end(scenario_file, "out", "--only", "precision=bf16*")["num_records"] == 3
    run = Finished(tmp_path / "out", scenario_file, {}, 1, 4)
    assert {cell["precision"]["weights"] for cell in run.info["plan"]["cells"]} == {"bf16"}
    first = (tmp_path / "out" / "records.jsonl").read_bytes()
    assert run_to_the_end(scenario_file, "out", "--resume")["num_records"] == 6
    assert (tmp_path / "out" / "records.jsonl").read_bytes().startswith(first)
    assert [cell["precision"]["weights"] for cell in run.info["plan"]["cells"]] == ["bf16", "bf16", "nvfp4", "nvfp4"]
    last = [record for record in run.of_kind("heldout") if record["precision"]["weights"] == "nvfp4"][-1]
    assert last["metrics"]["mean_kl_nats"]["value"] > 0 and last["metrics"]["perplexity_change_pct"]["value"] is not None
    assert not (tmp_path / "out" / "scratch").exists()
