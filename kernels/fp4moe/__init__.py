"""FP4 Mixture-of-Experts runtime, in reading order.

formats -> pack -> layouts -> quantize -> precision -> reference (route, experts) -> select -> runtime -> checkpoint.
`reference/` is plain torch and the definition of right; other implementations carry the same names.
Nothing here imports `harness`.
"""
