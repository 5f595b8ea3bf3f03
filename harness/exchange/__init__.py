"""Results in other tools' formats: out as vLLM's, AIPerf's and Benchmark Report v0.2's JSON, in from vLLM's and AIPerf's.

    record + request samples -> served.Served -> vllm_bench.export, aiperf.export, benchmark_report.export
    a file of another tool -> vllm_bench_read.read, aiperf_read.read -> foreign.ForeignResult -> definitions.metrics_of
        -> imported.write_run -> a run's folder

An export leaves out what was not measured and never writes 0 for it. An imported run is marked so in every record: it was
measured by another client, with that client's definitions and overhead; what must not be judged against ours is named there.
"""
