"""What the bits of a format mean in registers: FP4 words to BF16, block scales, rounding to BF16 and E4M3.

In: tensors inside a kernel. Out: the same numbers in a type that tensor cores take. Bit moves only, no inline assembly, so
that the interpreter (TRITON_INTERPRET=1) runs the same expressions. Where it cannot (3.6 truncates to BF16, loses BF16
subnormals and multiplies BF16 as integers), INTERPRETED selects an equal float32 form of that one step.

An FP4 word is 8 codes of neighboring k, lowest nibble first. A code's BF16 bits s<<15 | em<<6 mean value * 2^-126; the
product with scale * 2^118 (NVFP4) or scale * 2^66 (MXFP4) is exact in BF16 and leaves value * scale * 2^-8 or 2^-60, undone
in the epilogue (`unfold_factor`). NVFP4's E4M3 scales fit exactly. MXFP4's are exact from 2^-72 to 2^61: smaller ones round
the weight to a multiple of 2^-73, larger ones and the NaN code give NaN.
Source: OCP Microscaling Formats (MX) v1.0.

PERMUTED K. Two codes 16 bits apart become one register of two BF16, so k is reordered within each block of 128: position
32 p + 2 j + h holds k = 8 w + 4 h + p, where w = 4 (j % 4) + j // 4 is the word, so that the lane which holds column pair j
of a tensor core tile needs four neighboring words. Both operands are permuted alike (`k_of_position`), so a product does not
change.
"""

import triton
import triton.language as tl
from triton import knobs

from fp4moe.formats import E4M3_MAX, FP32_SMALLEST_NORMAL
from fp4moe.triton.interpreter import repair

IS_INTERPRETED = knobs.runtime.interpret
if IS_INTERPRETED:
    repair()
INTERPRETED = tl.constexpr(IS_INTERPRETED)
PERMUTED_BLOCK = 128
MAX_E4M3 = tl.constexpr(E4M3_MAX)
SMALLEST_SCALE = tl.constexpr(FP32_SMALLEST_NORMAL)

_SIGNS = tl.constexpr(-0x7FFF8000)  # 0x80008000 as int32
_MAGNITUDES = tl.constexpr(0x01C001C0)
_E4M3_FIELDS = tl.constexpr(-0x78100000)  # 0x87F00000 as int32
_MXFP4_SHIFT = tl.constexpr(66)
_BF16_NAN = tl.constexpr(0x7FC0)
_TWO_119 = tl.constexpr(2.0**119)


@triton.jit
def k_of_position(position):
    """The k that stands at a position of the permuted order, see PERMUTED K."""
    place = position % 128
    pair, half, column = place // 32, place % 2, (place % 32) // 2
    return position - place + 8 * (4 * (column % 4) + column // 4) + 4 * half + pair


@triton.jit
def unfold_factor(FORMAT: tl.constexpr):
    """What an accumulated product is multiplied by: the power of two that expand_words leaves out."""
    if FORMAT == "nvfp4":
        return 256.0
    elif FORMAT == "mxfp4":
        return 1152921504606846976.0
    else:
        return 1.0


@triton.jit
def scale_bf16(codes, FORMAT: tl.constexpr):
    """uint8 block scales -> BF16 scale * 2^118 (E4M3) or scale * 2^66 (E8M0); NaN codes stay NaN."""
    if FORMAT == "nvfp4":
        # E4M3's fields at float32's place mean scale * 2^-120, subnormals included; 2^238 takes two multiplications.
        fields = ((codes.to(tl.int32) << 24) >> 4) & _E4M3_FIELDS
        scale = fields.to(tl.float32, bitcast=True) * _TWO_119 * _TWO_119
        return tl.where((codes & 0x7F) == 0x7F, float("nan"), scale).to(tl.bfloat16)
    else:
        exponent = codes.to(tl.int32) + _MXFP4_SHIFT
        bits = tl.where(exponent < 255, exponent << 7, _BF16_NAN)
        return bits.to(tl.int16).to(tl.bfloat16, bitcast=True)


@triton.jit
def scaled_half(bits, scale):
    """BF16 bits in the low half of an int32 times a BF16 scale: BF16, exact."""
    if INTERPRETED:
        return ((bits << 16).to(tl.float32, bitcast=True) * scale.to(tl.float32)).to(tl.bfloat16)
    else:
        return bits.to(tl.int16).to(tl.bfloat16, bitcast=True) * scale


@triton.jit
def scaled_pair(words, scale, PAIR: tl.constexpr):
    """Codes PAIR and PAIR + 4 of each word, scaled: BF16 with a new last axis of 2."""
    moved = words << (12 - 4 * PAIR)
    bits = (moved & _SIGNS) | ((moved >> 6) & _MAGNITUDES)
    return tl.join(scaled_half(bits, scale), scaled_half(bits >> 16, scale))


@triton.jit
def expand_words(words, scales, FORMAT: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """int32 words [N, K / 8] and uint8 scales [N, K / 16 or 32] -> BF16 [N, K] in permuted order; K a multiple of 128."""
    BLOCKS: tl.constexpr = BLOCK_K // 128
    # Axes: N, block of 128, column % 4, column // 4 as two; then half, pair // 2, pair % 2.
    words = tl.reshape(words, (BLOCK_N, BLOCKS, 4, 2, 2))
    SCALES: tl.constexpr = 2 if FORMAT == "nvfp4" else 1  # of four neighboring words
    scale = tl.reshape(scale_bf16(scales, FORMAT), (BLOCK_N, BLOCKS, 4, SCALES, 1))
    scale = tl.broadcast_to(scale, words.shape)
    even = tl.join(scaled_pair(words, scale, 0), scaled_pair(words, scale, 2))
    odd = tl.join(scaled_pair(words, scale, 1), scaled_pair(words, scale, 3))
    return tl.reshape(tl.permute(tl.join(even, odd), (0, 1, 6, 7, 3, 4, 2, 5)), (BLOCK_N, BLOCK_K))


@triton.jit
def to_bf16(x):
    """float32 to BF16, nearest even; NaN stays NaN."""
    if INTERPRETED:
        bits = x.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return tl.where(x == x, rounded.to(tl.float32, bitcast=True), x).to(tl.bfloat16)
    else:
        return x.to(tl.bfloat16)


@triton.jit
def round_e4m3(x):
    """float32 of magnitude up to 448 to the nearest E4M3 value, ties to even, as float32.

    Adding and subtracting 1.5 * 2^23 units in E4M3's last place rounds: 2^(e - 3) for x in [2^e, 2^(e + 1)), at least 2^-9.
    """
    exponent = (x.to(tl.int32, bitcast=True) >> 23) & 0xFF
    magic = ((tl.maximum(exponent, 121) + 20) << 23 | 0x400000).to(tl.float32, bitcast=True)
    return (x + magic) - magic


@triton.jit
def dot(w, x, sum):
    """sum + w x on tensor cores; FP8 partial sums go to float32 every 128 k, for Hopper's FP8 accumulators are shorter."""
    if INTERPRETED:
        return tl.dot(w.to(tl.float32), x.to(tl.float32), sum)
    elif w.dtype == tl.float8e4nv:
        return tl.dot(w, x, sum, max_num_imprecise_acc=128)
    else:
        return tl.dot(w, x, sum)
