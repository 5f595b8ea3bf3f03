// FP4 codes -> BF16 fragments of the tensor core's left operand, by bit moves (sm_90: one multiply for a pair of values).
//
// A chunk is 16 rows x 128 k of one warp, packed by layout.py:
//   codes   [half][lane][4]  32-bit words; lane 4 g + t: rows g and g + 8, k = 32 t + 16 half + 4 step + 0..3
//   scales  NVFP4 [lane][half][row g, g + 8] E5M3 codes; MXFP4 [lane][row g, g + 8] exponents
// value * 2^-126 comes out of the bits, scale * 2^118 is a BF16: the product is value * scale * 2^-8, exactly.
#pragma once
#include <cstdint>

namespace fp4moe {

// `expand`: the BF16 scales of rows g (low half) and g + 8 in one half of the k; `selector` says which bytes they are in, once.
struct Nvfp4 {
  static constexpr int kChunkBytes = 1024 + 128;
  using Scales = uint32_t;
  static __device__ __forceinline__ uint32_t selector(int half) { return half ? 0x4342u : 0x4140u; }
  static __device__ __forceinline__ uint32_t expand(Scales scales, uint32_t selector) {
    return __byte_perm(scales, 0, selector) * 16 + 0x76007600u;
  }
};

struct Mxfp4 {
  static constexpr int kChunkBytes = 1024 + 64;
  using Scales = uint16_t;                       // one scale for both halves
  static __device__ __forceinline__ uint32_t selector(int) { return 0x4140u; }
  static __device__ __forceinline__ uint32_t expand(Scales scales, uint32_t selector) { return __byte_perm(scales, 0, selector) << 7; }
};

// A pair of BF16 times one half of `scales`, which the instruction takes by itself.
template <bool kIsHigh>
__device__ __forceinline__ uint32_t mul_bf16x2(uint32_t pair, uint32_t scales) {
  uint32_t out;
  if constexpr (kIsHigh)
    asm("{ .reg .b16 l, h; .reg .b32 both; mov.b32 {l, h}, %2; mov.b32 both, {h, h}; mul.rn.bf16x2 %0, %1, both; }"
        : "=r"(out) : "r"(pair), "r"(scales));
  else
    asm("{ .reg .b16 l, h; .reg .b32 both; mov.b32 {l, h}, %2; mov.b32 both, {l, l}; mul.rn.bf16x2 %0, %1, both; }"
        : "=r"(out) : "r"(pair), "r"(scales));
  return out;
}

// One word of 8 codes -> a fragment: rows g, g + 8, g, g + 8 and k pairs 0, 0, 1, 1. Where the bits lie: see layout.py.
__device__ __forceinline__ void dequantize(uint32_t word, uint32_t scales, uint32_t (&a)[4]) {
  constexpr uint32_t mask = 0x81C081C0u;
  uint32_t q3 = ((word << 4) & 0x81808180u) | ((word >> 4) & 0x00400040u);
  a[0] = mul_bf16x2<false>(word & mask, scales);
  a[1] = mul_bf16x2<true>((word << 6) & mask, scales);
  a[2] = mul_bf16x2<false>(__funnelshift_r(word, word, 6) & mask, scales);
  a[3] = mul_bf16x2<true>(q3, scales);
}

// D[16, 8] += A[16, 16] B[16, 8] of one warp, float32.
__device__ __forceinline__ void mma(float* d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace fp4moe
