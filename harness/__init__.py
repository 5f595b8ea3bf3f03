"""Benchmarking and profiling harness for FP4 Mixture-of-Experts models.

A YAML scenario says what to measure; the harness plans it into cells, runs each, records, judges and reports.
Importing this package imports no torch, pandas or matplotlib; `load_run` and `load_runs` import pandas when called.
"""

from harness.frames import load_run, load_runs

__version__ = "0.1.0"
__all__ = ["load_run", "load_runs"]
