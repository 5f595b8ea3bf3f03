"""Benchmarking and profiling harness for FP4 Mixture-of-Experts models.

A YAML scenario says what to measure; the harness plans it into cells, runs each, records, judges and reports.
Importing this package imports no torch, pandas or matplotlib; `load_runs` and its like import pandas when called.
"""

from harness.frames import load_run, load_runs
from harness.tidy import load_bench, load_cache, load_experts, projections

__version__ = "0.1.0"
__all__ = ["load_bench", "load_cache", "load_experts", "load_run", "load_runs", "projections"]
