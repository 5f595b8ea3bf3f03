"""What a decoder layer needs beside its experts, fused for decoding: norms with routing, attention over slots, thin products.

One file a kernel: norm_route -> thin_linear -> rotary_store -> slot_attention -> next_token. All run on sm_80 and newer, keep
the residual stream in float32, and wait for nothing on the host; runtime/gpu/ puts them in order.
"""
