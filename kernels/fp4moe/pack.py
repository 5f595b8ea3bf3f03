"""Codes of fewer than eight bits in bytes, and back.

In: uint8 codes, one an element, along the last axis. Out: uint8 bytes that hold 8 // bits codes each, the
first element in the lowest bits (so the low nibble comes first), as ModelOpt and compressed-tensors store
FP4. Packing and unpacking are exact inverses in both directions. Codes are moved, never interpreted.

Shapes: codes [..., K] <-> bytes [..., K * bits // 8].
"""

import torch
from torch import Tensor

from fp4moe.errors import FormatError


def pack(codes: Tensor, bits: int) -> Tensor:
    """uint8 [..., K] with values below 2**bits -> uint8 [..., K * bits // 8]; bits is 2, 4 or 8."""
    per_byte = _codes_per_byte(bits)
    if codes.dtype != torch.uint8 or codes.shape[-1] % per_byte:
        raise FormatError(
            f"pack: codes must be uint8 with a last axis that {per_byte} divides "
            f"(got {codes.dtype} {tuple(codes.shape)}); pad K before packing"
        )
    if codes.numel() and int(codes.max()) >= 2**bits:
        raise FormatError(f"pack: codes must be below {2**bits} for {bits} bits (got {int(codes.max())})")
    groups = codes.unflatten(-1, (codes.shape[-1] // per_byte, per_byte))
    packed = groups[..., 0].clone()
    for place in range(1, per_byte):
        packed |= groups[..., place] << (place * bits)
    return packed


def unpack(packed: Tensor, bits: int) -> Tensor:
    """uint8 [..., bytes] -> uint8 [..., bytes * 8 // bits], the inverse of `pack`."""
    per_byte = _codes_per_byte(bits)
    if packed.dtype != torch.uint8:
        raise FormatError(f"unpack: bytes must be uint8 (got {packed.dtype}); view the storage as uint8")
    places = [(packed >> (place * bits)) & (2**bits - 1) for place in range(per_byte)]
    return torch.stack(places, dim=-1).flatten(-2)


def pack_nibbles(codes: Tensor) -> Tensor:
    """4-bit codes, two a byte, low nibble first."""
    return pack(codes, 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """Inverse of `pack_nibbles`."""
    return unpack(packed, 4)


def _codes_per_byte(bits: int) -> int:
    if bits not in (2, 4, 8):
        raise FormatError(f"pack: bits must be 2, 4 or 8 (got {bits})")
    return 8 // bits
