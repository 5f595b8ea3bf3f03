// FP4 codes -> E4M3 fragments of the tensor core's left operand, by a table of 8 bytes a block and one byte permutation for 4 codes.
//
// A chunk is 16 rows x 128 k of one warp, packed by e4m3_layout.py:
//   codes   [quarter][lane][4]  32-bit words (step 0 row g, step 0 row g + 8, step 1 row g, step 1 row g + 8)
//           lane 4 g + t: k = 32 t + 16 quarter + 8 step + 0..7; quarter 0 and 1
//   scales  NVFP4 [lane][quarter][row g, g + 8]; MXFP4 [lane][row g, g + 8]: the E4M3 bits of the block scale, never below 16
// In E4M3, value x scale is: .5 x a step of the exponent down; 2, 4 x up; 1.5 x adds 4 to the bits, or 5 for mantissas 1 to 5, which
// is the rounding to nearest even. Bits between 16 and 102 keep all of them normal numbers.
#pragma once
#include <cstdint>

namespace fp4moe {

struct Table { uint32_t low, high; };            // E4M3 of 0, .5, 1, 1.5 and of 2, 3, 4, 6 times the scale

template <bool kIsPowerOfTwo>
__device__ __forceinline__ Table make_table(uint32_t scale) {
  Table table = {scale * 0x01010100u + 0x03FFF800u, scale * 0x01010101u + 0x14100C08u};
  if constexpr (!kIsPowerOfTwo) {
    uint32_t more = __funnelshift_r(0x3E3E3E3Eu, 0x3E3E3E3Eu, scale) & 1;
    table.low += more * 0x01000000u, table.high += more * 0x01000100u;
  }
  return table;
}

struct Nvfp4E4m3 {
  static constexpr bool kIsExpanded = true;
  static constexpr int kChunkBytes = 1024 + 128;
  using Scales = uint32_t;
  static __device__ __forceinline__ Table table(Scales scales, int quarter, int row) {
    return make_table<false>(__byte_perm(scales, 0, 0x4440 | (quarter * 2 + row)));
  }
};

struct Mxfp4E4m3 {
  static constexpr bool kIsExpanded = true;
  static constexpr int kChunkBytes = 1024 + 64;
  using Scales = uint16_t;
  static __device__ __forceinline__ Table table(Scales scales, int, int row) {
    return make_table<true>(__byte_perm(scales, 0, 0x4440 | row));
  }
};

// FP8 weights are not expanded: the tensor core reads 8 rows x 128 k in 1024 bytes, 128-byte swizzle, k permuted alike.
struct StoredE4m3 {
  static constexpr bool kIsExpanded = false;
  static constexpr int kChunkBytes = 2048;
};

// 8 codes of a row -> its two registers. Magnitudes are the low three bits of each nibble; the sign of code i < 4 is bit 8 i + 7,
// of code 4 + i bit 8 i + 3.
__device__ __forceinline__ void expand_codes(uint32_t word, const Table& table, uint32_t& first, uint32_t& second) {
  uint32_t selectors;                            // one instruction: the compiler would make two of it
  asm("and.b32 %0, %1, 0x77777777;" : "=r"(selectors) : "r"(word));
  first = __byte_perm(table.low, table.high, selectors) | (word & 0x80808080u);
  second = __byte_perm(table.low, table.high, selectors >> 16) | ((word << 4) & 0x80808080u);
}

}  // namespace fp4moe
