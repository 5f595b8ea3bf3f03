"""Engines that the harness can measure, behind one interface; the only folder that imports `fp4moe`.

A backend lives inside a worker process and answers three commands, each with a `progress(done, total, what)` callback:
`facts` (what a precision would need, before loading; the native one alone), `load`, `measure` (one cell, one repeat). One that
started processes of its own has a `close`.
"""

from importlib import import_module

BACKENDS = {
    "native": "harness.backends.native:NativeBackend",
    "vllm": "harness.backends.vllm.backend:VllmBackend",
    "served": "harness.backends.served.backend:ServedBackend",
}
"""Name -> "module:class", imported only inside a worker."""


def open_backend(name: str):
    """Import a backend, by its name in BACKENDS or as "module:class" of your own, and make one."""
    module, _, attribute = BACKENDS.get(name, name).partition(":")
    return getattr(import_module(module), attribute)()
