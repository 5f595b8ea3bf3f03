"""Implementations in CUDA C++, built with nvcc at first use; why each is not Triton stands in docs/decisions/.

nvfp4_layout (offline weight layout) -> build (nvcc, cached) -> nvfp4_decode (the call).
"""
