"""Names of implementations that a scenario may ask for by `kernels.implementation`.

They are repeated from `fp4moe.select.NAMES`, so that reading a scenario imports nothing of the runtime;
tests/harness/test_native_backend.py holds the two against each other.
"""

NAMES = (
    "triton-route",
    "reference",
    "cuda-fragments-decode",
    "cuda-fragments-rows",
    "cuda-fragments-grouped",
    "cuda-e4m3",
    "cuda-fp8",
    "triton-w4a4",
    "triton-grouped",
)
