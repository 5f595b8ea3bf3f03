"""The kinds of mistake that `fp4moe` reports, one class each.

Every message says the place, the rule, the value found and the next step. All derive from `Fp4MoeError`, itself a
`ValueError`, so that a caller may catch one kind or all of them.
"""


class Fp4MoeError(ValueError):
    """Base of every error that `fp4moe` raises for a cause outside itself."""


class FormatError(Fp4MoeError):
    """A tensor or a name does not fit a number format: unknown format, NaN in weights, K not a multiple of the block."""


class CheckpointError(Fp4MoeError):
    """A checkpoint is missing, incomplete, of another architecture, or holds tensors of the wrong shape."""


class SelectionError(Fp4MoeError):
    """No implementation of an operation runs on the device that was asked for."""


class EngineError(Fp4MoeError):
    """A request cannot be served: prompt longer than the context, unknown request, no slots."""
