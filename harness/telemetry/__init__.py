"""Clocks, power, utilisation, temperature, throttling and memory of the devices under a cell, sampled beside it.

`sampler` (a thread at a stated rate) reads `nvml` and `host`; `store` keeps the samples; `summary` makes metrics of them and
`judge` reasons for the verdict. The sampler runs in the parent process, which only waits: it takes no time from the worker.
"""
