"""Projection of a whole model on a GPU from measured layers: what it would do where nobody has measured.

gpus (data sheets) -> curves (measured layers) -> layer (memory, SM side, fixed) -> step (a whole model) -> engines (what an
engine adds) -> memory (what fits) -> kernels (what runs where) -> projection (one workload) -> load (requests at a rate).
loo is the error of all that; export writes what it is calibrated on. No torch; see docs/projection.md.
"""
