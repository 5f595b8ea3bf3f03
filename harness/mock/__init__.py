"""A mock of an OpenAI-compatible streaming server, in a process of its own, that stamps its clock into each chunk.

In: `MockOptions`. Out: a running server's URL. Its nominal delays are not its delays: each chunk carries `stamp_ns`, the
monotonic clock just before it was written, and the client is scored on the difference. It can misbehave on purpose
(harness/mock/faults.py). It computes nothing and measures nothing: its speed is not a model's.
"""

from harness.mock.options import MockOptions
from harness.mock.process import Mock, serve_mock

__all__ = ["Mock", "MockOptions", "serve_mock"]
