"""Engines that the harness can measure, behind one interface; the only folder that imports `fp4moe`.

A backend lives inside a worker process and answers three commands, each with a `progress(done, total, what)` callback:
`facts` (what a precision would need, before loading), `load`, `measure` (one cell, one repeat).
"""

from importlib import import_module

BACKENDS = {"native": "harness.backends.native:NativeBackend"}
"""Name -> "module:class", imported only inside a worker."""


def open_backend(name: str):
    """Import a backend, by its name in BACKENDS or as "module:class" of your own, and make one."""
    module, _, attribute = BACKENDS.get(name, name).partition(":")
    return getattr(import_module(module), attribute)()
