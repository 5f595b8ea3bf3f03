"""`harness profile`: a cell under nsys and the torch profiler, one table by range, from whichever source saw what.

Reading order: spans (what every source becomes) -> tree (who lies in whom) -> table (a row a range) <- nsys_sqlite,
torch_trace, graph (kernels of a CUDA graph's replay); host_step (a whole step as the host lives it); tools (which profiler
runs here), nsys (run, import, export, bounded), target (the process that is profiled), command (all of it). No torch here: the
profiled process is another one.
"""
