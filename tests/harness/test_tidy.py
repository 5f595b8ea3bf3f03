"""Tables for notebooks: typed columns, a row an observation, and nothing projected without its mark."""

import pandas
import pytest

import harness
from harness.errors import RunFolderError

QUALITY = "results/baselines/quality-pocket-mixtral"
BENCH = "results/baselines/kernels/h200-mixtral"


def test_bench_is_a_row_a_kernel_format_and_tokens():
    table = harness.load_bench(BENCH)
    assert not table.duplicated(["gpu", "kernel", "format", "tokens"]).any()
    assert str(table.us_median.dtype) == "Float64" and str(table.tokens.dtype) == "Int64"
    assert table[table.status != "ok"].us_median.isna().all()
    ok = table[table.status == "ok"]
    assert (ok.intensity_flop_per_byte * ok.weight_bytes / ok.us_median / 1e6 - ok.tflops).abs().max() < 1e-3


def test_experts_sum_up_to_the_slots_of_the_scored_tokens():
    table = harness.load_experts([QUALITY])
    base = table[table.precision == "BF16 x BF16"]
    assert (base.groupby("layer").slots.sum() == 2 * 262144).all()
    assert base.groupby("layer").share.sum().astype(float).to_numpy() == pytest.approx(1.0)
    assert str(table.slots.dtype) == "Int64" and str(table.layer.dtype) == "Int64"


def test_cache_rates_are_shares_and_grow_with_the_slots():
    table = harness.load_cache([QUALITY])
    lru = table[(table.policy == "lru") & (table.precision == "BF16 x BF16")].sort_values("slots_per_layer")
    assert lru.hit_rate.is_monotonic_increasing and lru.hit_rate.between(0, 1).all()


def test_every_projected_row_says_so_and_ranges_have_no_value():
    table = harness.projections(["H200", "A100"], batch=2)
    figures = table[table.metric.notna()]
    assert set(figures.kind) == {"projected", "projected, unvalidated"}
    assert figures[figures.gpu == "A100"].value.isna().all() and figures[figures.gpu == "H200"].value.notna().all()
    assert (figures.low <= figures.high).all()
    assert table[table.metric.isna()].reason.notna().all()


def test_runs_and_tables_join_on_the_run():
    runs, experts = harness.load_runs([QUALITY]), harness.load_experts([QUALITY])
    joined = runs.merge(experts, on=["run_id", "cell_id", "repeat"], suffixes=("", "_experts"))
    assert isinstance(joined, pandas.DataFrame) and len(joined) == len(experts)


def test_a_folder_that_is_no_bench_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="not a bench's folder"):
        harness.load_bench(tmp_path)
