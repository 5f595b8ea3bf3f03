"""Triton kernels of the MoE layer, for sm_80 and newer.

bits.py (what the bits mean in registers) -> route.py (logits to experts) -> sort.py (slots by expert) -> rows.py
(activations rounded) -> gemm.py (the grouped product) -> combine.py (sum over a token's experts) -> experts.py (the layer).
tiles.py says which tile sizes a device gets; aot.py compiles every kernel for a GPU that is not there; check.py compares
with the reference on one that is. Importing the package itself imports no Triton.
"""
