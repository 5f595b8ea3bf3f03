"""Backends behind HTTP: `harness serve`, `vllm serve`, or a server that somebody else runs; all measured by the load
client.

launch (start a server, or take the URL) -> identify (is it the API, has it the model) -> backend (workloads through
harness.client) and quality (perplexity through `echo` and `logprobs`).
"""
