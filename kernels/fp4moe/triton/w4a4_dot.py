"""One block-scaled FP4 product, two ways: on the FP4 tensor cores, or the same numbers in plain float32.

    acc[n, t] += sum over k of w[n, k] * x[t, k],  value = E2M1 code * block scale (16 or 32 values share one)

In: packed codes (low nibble first) and block scales as bytes, E4M3 where a block has 16 values (NVFP4), E8M0 where it has 32
(MXFP4). Out: float32. NATIVE: `tl.dot_scaled`, which Triton lowers to tcgen05.mma (SM100) or mma.sync (SM120) with the scales
applied inside. Otherwise the twin: both operands are decoded to float32, which is exact, and multiplied by `tl.dot`; it runs
in Triton's interpreter and on any GPU, for checking. Tensor and token scales are the caller's.
Sources: OCP Microscaling Formats (MX) v1.0; PTX ISA, matrix products with block scaling.

Shapes: N weight rows, T tokens, K reduction, H = K // 2 bytes, G = K // BLOCK scales a row.
"""

import triton
import triton.language as tl


@triton.jit
def e2m1_values(codes):
    """float32 values of 4-bit codes: twice the magnitude is an integer, m or (2 + m) << (e - 1)."""
    code = codes.to(tl.int32)
    exponent = (code >> 1) & 3
    mantissa = code & 1
    doubled = tl.where(exponent == 0, mantissa, (2 + mantissa) << tl.maximum(exponent - 1, 0))
    return tl.where((code & 8) != 0, -0.5, 0.5) * doubled.to(tl.float32)


@triton.jit
def scale_values(codes, BLOCK: tl.constexpr):
    """float32 values of scale bytes: E4M3 where a block has 16 values, E8M0 where it has 32."""
    code = codes.to(tl.int32)
    if BLOCK == 16:
        normal = (((code & 0x7F) << 20) + (120 << 23)).to(tl.float32, bitcast=True)  # exponent bias 7 to 127
        value = tl.where((code & 0x78) == 0, (code & 7).to(tl.float32) * 0.001953125, normal)  # subnormals: units of 2^-9
        value = tl.where((code & 0x7F) == 0x7F, float("nan"), value)
        return tl.where((code & 0x80) != 0, -value, value)
    else:
        value = tl.where(code == 0, 0x00400000, code << 23).to(tl.float32, bitcast=True)  # code 0 is 2^-127, a subnormal
        return tl.where(code == 255, float("nan"), value)


@triton.jit
def decode(codes_RH, scales_RG, ROWS: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr):
    """uint8 [R, K / 2] and [R, G] -> float32 [R, K]; exact, for a scale has at most 4 significant bits and a code 2."""
    values_RK = tl.join(e2m1_values(codes_RH & 15), e2m1_values(codes_RH >> 4)).reshape(ROWS, K // BLOCK, BLOCK)
    return (values_RK * scale_values(scales_RG, BLOCK)[:, :, None]).reshape(ROWS, K)


@triton.jit
def block_scaled_dot(
    w_NH, w_scales_NG, x_TH, x_scales_TG, acc_NT, ROWS: tl.constexpr, TOKENS: tl.constexpr, K: tl.constexpr,
    BLOCK: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """acc + w x^T. The weight is the left operand: its rows fill the instruction's M however few tokens there are."""
    if NATIVE:
        if BLOCK == 16:
            w_scales_NG = w_scales_NG.to(tl.float8e4nv, bitcast=True)
            x_scales_TG = x_scales_TG.to(tl.float8e4nv, bitcast=True)
        return tl.dot_scaled(w_NH, w_scales_NG, "e2m1", x_TH.T, x_scales_TG, "e2m1", acc_NT)
    else:
        w_NK = decode(w_NH, w_scales_NG, ROWS, K, BLOCK)
        x_TK = decode(x_TH, x_scales_TG, TOKENS, K, BLOCK)
        return tl.dot(w_NK, x_TK.T, acc_NT, input_precision="ieee")
