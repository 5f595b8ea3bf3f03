"""Microbenchmark of the MoE layer's kernels: correctness, then microseconds against the roofline and installed peers.

shapes, formats, routing (what is asked) -> contenders, peers/ (who runs) -> check (is it right) -> timing, ceilings (how
fast) -> quality (at what perplexity) -> rows, results (the record) -> table, plots. crossovers and tuned turn a record
into the table that selection reads. Modules import torch, numpy and the standard library at their top, nothing else, so
that the bench runs on a GPU host that has little installed.
"""
