"""Kernels in CUDA C++, built with nvcc at first use: what Triton cannot express (docs/decisions/0005).

build.py compiles and loads; fragments_layout.py packs weights; fragments.py calls moe_sm90.cu (Hopper). Headers:
moe_plan_sm90.cuh (its work), moe_products_sm90.cuh (its products),
fp4_fragments.cuh (codes to fragments), wgmma_sm90.cuh, sm90_async.cuh. Nothing is imported or built until it is called.
"""
