"""What Triton's interpreter (TRITON_INTERPRET=1) needs to run these kernels on a CPU.

Triton 3.6 turns loop bounds into Python integers with int(array of one element), which NumPy 2.4 and newer refuse. `repair`
makes it take the element instead. Nothing here touches compiled kernels. The interpreter's other limits (BF16 arithmetic,
rounding) are met where the numbers are made, see bits.py.
"""

from __future__ import annotations


def repair() -> None:
    """Let the interpreter loop up to a bound that is only known while running; call it once."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_with_index(tensor, scope) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch_with_index
