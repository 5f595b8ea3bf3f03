// What the workers of moe_sm90.cu do with a segment: expand the codes, multiply, add up, write h or add to y. Also where x and h lie.
#pragma once
#include <cuda_bf16.h>
#include <cstdint>

#include "fp4_fragments.cuh"
#include "moe_plan_sm90.cuh"
#include "sm90_async.cuh"
#include "wgmma_sm90.cuh"

namespace fp4moe {
namespace {

// Wide tiles: the 1024 bytes of (sorted position / 8, 64 k) in xs or hs.
template <class C>
__device__ __forceinline__ size_t atom_byte(const Params& p, int position, int atom) {
  size_t group = static_cast<size_t>(atom / C::kAtoms) * p.capacity + position / 8;
  return (group * C::kAtoms + atom % C::kAtoms) * 1024;
}

// Narrow tiles: k of a sorted position in xs or hs.
template <class C>
__device__ __forceinline__ size_t row_byte(const Params& p, int position, int k) {
  constexpr int kStage = C::kStageChunks * 128;
  return (static_cast<size_t>(k / kStage) * p.capacity * 8 + position) * C::kRowBytes + k % kStage * 2;
}

// In it: the two values at positions 16 step + 8 pair + 2 t of a row.
__device__ __forceinline__ int pair_byte(int row, int step, int pair, int t) {
  return row * 128 + ((step * 2 + pair) ^ row) * 16 + t * 4;
}

// The width of the product that serves a tile.
template <class C>
__device__ __forceinline__ int round_tokens(int count) {
  return count <= C::kMinTokens ? C::kMinTokens : (count + C::kTokenStep - 1) / C::kTokenStep * C::kTokenStep;
}

// Where in the ring: the slot of a stage and the parity of its barriers' phase.
template <int kCount>
struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void step() {
    if (++slot == kCount) slot = 0, parity ^= 1;
  }
  __device__ __forceinline__ int before() const { return slot == 0 ? kCount - 1 : slot - 1; }
};

__device__ __forceinline__ float silu(float v) { return v / (1.0f + __expf(-v)); }

// h of 8 columns (lane g's) and the tile's tokens. The row tile is the chunk of 8 permuted positions.
template <class C, int kTokens>
__device__ void store_activations(const Params& p, const Tile& tile, int row_tile, const float (&d)[kTokens / 2]) {
  int lane = threadIdx.x & 31, g = lane / 4, t = lane & 3;
  float gate = p.scale1[2 * tile.expert], up = p.scale1[2 * tile.expert + 1];
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j) {
    float low = silu(d[4 * j] * gate) * (d[4 * j + 2] * up), high = silu(d[4 * j + 1] * gate) * (d[4 * j + 3] * up);
    bool is_odd = g & 1;                         // an even lane writes two columns of token 2 t, an odd one of token 2 t + 1
    float other = __shfl_xor_sync(~0u, is_odd ? low : high, 4);
    int token = 8 * j + 2 * t + is_odd;
    __nv_bfloat162 pair = is_odd ? __floats2bfloat162_rn(other, high) : __floats2bfloat162_rn(low, other);
    if (token >= tile.count) continue;
    uint8_t* to = p.hs;
    if constexpr (C::kIsNarrow)                  // k = 32 t + 16 half + 4 step + 2 pair in its 128
      to += row_byte<C>(p, tile.first + token, row_tile / 16 * 128 + g / 2 * 32 + row_tile % 16 * 2);
    else
      to += atom_byte<C>(p, tile.first + token, row_tile / 8) + pair_byte(token & 7, row_tile / 2 % 4, row_tile % 2, g / 2);
    *reinterpret_cast<__nv_bfloat162*>(to) = pair;
  }
}

// Rows g and g + 8 of a chunk of the second product are neighbours in y.
template <class C, int kTokens>
__device__ void add_outputs(const Params& p, const Shared<C>& s, const Tile& tile, int row_tile, const float (&d)[kTokens / 2]) {
  int lane = threadIdx.x & 31, t = lane & 3, row = row_tile * 16 + lane / 4 * 2;
  float scale = p.scale2[tile.expert];
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j) {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      int token = 8 * j + 2 * t + odd;
      if (token >= tile.count) continue;
      int slot = s.order[tile.first + token];
      float weight = p.gate_weights[slot] * scale;
      add_pair(p.y + static_cast<size_t>(slot / p.top_k) * p.hidden + row, d[4 * j + odd] * weight, d[4 * j + 2 + odd] * weight);
    }
  }
}

template <int kCount>
__device__ __forceinline__ void fence_registers(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

template <class C, int kTokens>
__device__ __forceinline__ void write_sums(const Params& p, const Shared<C>& s, bool is_first, const Tile& tile, int row_tile,
                                           const float (&d)[kTokens / 2]) {
  if (is_first) store_activations<C, kTokens>(p, tile, row_tile, d);
  else add_outputs<C, kTokens>(p, s, tile, row_tile, d);
}

// The block of 64 rows that warpgroup `row_group` has of a segment, or -1 where the matrix has ended before.
template <class C>
__device__ __forceinline__ int row_block_of(const Params& p, const Segment& segment, bool is_first, int row_group) {
  int row_blocks = (is_first ? 2 * p.intermediate : p.hidden) / 64, row_block = segment.row_block * C::kRowGroups + row_group;
  return row_block < row_blocks ? row_block : -1;
}

// What lies at an address of shared memory. 32-bit addresses: a lane's places take one addition each, not three.
template <class T>
__device__ __forceinline__ T load_shared(uint32_t address);

template <>
__device__ __forceinline__ uint4 load_shared<uint4>(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address));
  return v;
}

template <>
__device__ __forceinline__ uint32_t load_shared<uint32_t>(uint32_t address) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}

template <>
__device__ __forceinline__ uint16_t load_shared<uint16_t>(uint32_t address) {
  uint16_t v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(address));
  return v;
}

// Where in shared memory a lane reads a chunk of 128 k: its codes and its tokens' values of the two halves, and its scales. Lanes of
// t = 2, 3 take their halves of 16 k in the other order, so that the rows of tokens, read as they are, come from all banks.
struct LanePlace {
  uint32_t codes[2], tokens[2], scales, selectors[2];

  template <class C>
  __device__ __forceinline__ LanePlace at(int slot) const {
    int weights = slot * C::kWeightBytes, values = slot * C::kTokenBytes;
    return {{codes[0] + weights, codes[1] + weights}, {tokens[0] + values, tokens[1] + values}, scales + weights, {selectors[0], selectors[1]}};
  }
};

// 16 rows x 128 k of a warp times up to 24 tokens, through mma.sync: less to issue than wgmma where tokens are few. `depth`: which of
// its chunks. Eight tokens have two sums, one for each half of k, so that fewer products wait for the one before.
template <class C, int kTokens, int kSums>
__device__ __forceinline__ void multiply_chunk(const LanePlace& from, int depth, float (&d)[kSums][kTokens / 2]) {
  using Format = typename C::Weights;
  auto codes_of_scales = load_shared<typename Format::Scales>(from.scales + depth * C::kBlockBytes);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t scales = Format::expand(codes_of_scales, from.selectors[half]);
    uint4 v = load_shared<uint4>(from.codes[half] + depth * C::kBlockBytes);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int step = 0; step < 4; step += 2) {
      uint32_t a[2][4];
      dequantize(words[step], scales, a[0]), dequantize(words[step + 1], scales, a[1]);
#pragma unroll
      for (int group = 0; group < kTokens / 8; ++group) {
        uint4 b = load_shared<uint4>(from.tokens[half] + group * (8 * C::kRowBytes) + step * 8 + depth * 256);
        float* sum = d[half % kSums] + group * 4;
        mma(sum, a[0], b.x, b.y), mma(sum, a[1], b.z, b.w);
      }
    }
  }
}

// One segment in a narrow tile.
template <class C, int kTokens>
__device__ __forceinline__ void multiply_narrow(const Params& p, Shared<C>& s, const Segment& segment, RingPlace<C::kStages>& place, int turn) {
  using Format = typename C::Weights;
  constexpr int kSums = kTokens == 8 ? 2 : 1;
  int group = __shfl_sync(~0u, threadIdx.x / 128, 0), warp = threadIdx.x / 32 & 3, lane = threadIdx.x & 31;
  int row_group = group / C::kKGroups, k_group = group % C::kKGroups;
  const Tile tile = s.tiles[segment.tile];
  bool is_first = segment.is_first;
  int row_block = row_block_of<C>(p, segment, is_first, row_group), order = lane >> 1 & 1, num_stages = segment.end - segment.begin;
  int chunks = (is_first ? p.hidden : p.intermediate) / 128;
  // The chunks from this warpgroup's first one to the end of k; only the last stage can be short of them.
  int left = row_block < 0 ? 0 : chunks - segment.begin * C::kStageChunks - k_group * C::kDepth;
  uint32_t row = smem_address(s.tokens[0]) + lane / 4 * C::kRowBytes + k_group * C::kDepth * 256 + (lane & 3) * 64;
  uint32_t chunk = smem_address(s.weights[0]) + (row_group * C::kStageChunks + k_group * C::kDepth) * C::kBlockBytes + warp * Format::kChunkBytes;
  uint32_t codes = chunk + lane * 16, scales = chunk + 1024 + lane * sizeof(typename Format::Scales);
  LanePlace first{{codes + order * 512, codes + (order ^ 1) * 512}, {row + order * 32, row + (order ^ 1) * 32}, scales,
                  {Format::selector(order), Format::selector(order ^ 1)}};
  // Once: the compiler would add these up anew each stage.
  asm volatile("" : "+r"(first.codes[0]), "+r"(first.codes[1]), "+r"(first.tokens[0]), "+r"(first.tokens[1]), "+r"(first.scales));
  float d[kSums][kTokens / 2] = {};
  for (int at = 0; at < num_stages; ++at, left -= C::kStageChunks, place.step()) {
    LanePlace from = first.at<C>(place.slot);
    wait(&s.full[place.slot], place.parity);
    if (left >= C::kDepth) {
#pragma unroll
      for (int depth = 0; depth < C::kDepth; ++depth) multiply_chunk<C, kTokens>(from, depth, d);
    } else {
#pragma unroll 1
      for (int depth = 0; depth < left; ++depth) multiply_chunk<C, kTokens>(from, depth, d);
    }
    __syncwarp();
    if (lane == 0) arrive(&s.empty[place.slot]);
  }
  if constexpr (kSums == 2)
#pragma unroll
    for (int i = 0; i < kTokens / 2; ++i) d[0][i] += d[1][i];

  if constexpr (C::kKGroups > 1) {               // the sum over the warpgroups that share these rows
    constexpr int kOthers = C::kKGroups - 1;
    float4* box = reinterpret_cast<float4*>(s.exchange) + (turn & 1) * (C::kExchangeFloats / 8);
    int thread = threadIdx.x & 127, place_of = (k_group - turn - 1) & kOthers;  // another one adds up each time
    if (place_of < kOthers)
#pragma unroll
      for (int j = 0; j < kTokens / 8; ++j)
        box[((row_group * kOthers + place_of) * (C::kMaxTokens / 8) + j) * 128 + thread] =
            make_float4(d[0][4 * j], d[0][4 * j + 1], d[0][4 * j + 2], d[0][4 * j + 3]);
    named_barrier(1 + row_group, C::kKGroups * 128);
    if (place_of < kOthers) return;
#pragma unroll
    for (int other = 0; other < kOthers; ++other)
#pragma unroll
      for (int j = 0; j < kTokens / 8; ++j) {
        float4 v = box[((row_group * kOthers + other) * (C::kMaxTokens / 8) + j) * 128 + thread];
        d[0][4 * j] += v.x, d[0][4 * j + 1] += v.y, d[0][4 * j + 2] += v.z, d[0][4 * j + 3] += v.w;
      }
  }
  if (row_block >= 0) write_sums<C, kTokens>(p, s, is_first, tile, row_block * 4 + warp, d[0]);
}

// One segment in a wide tile: a warpgroup takes 64 rows and the 128 k of each stage.
template <class C, int kTokens>
__device__ __forceinline__ void multiply_wide(const Params& p, Shared<C>& s, const Segment& segment, RingPlace<C::kStages>& place) {
  using Format = typename C::Weights;
  constexpr int kBatch = C::kMaxTokens > 64 ? 1 : 2;  // words expanded while the ones before are multiplied
  constexpr uint32_t kLayout = wgmma_layout(C::kAtoms * 1024);
  int group = __shfl_sync(~0u, threadIdx.x / 128, 0), warp = threadIdx.x / 32 & 3, lane = threadIdx.x & 31;
  const Tile tile = s.tiles[segment.tile];
  bool is_first = segment.is_first;              // read here: read after the loop, its wgmmas' descriptors take 7 moves more
  int row_block = row_block_of<C>(p, segment, is_first, group), num_stages = segment.end - segment.begin;
  int working = row_block < 0 ? 0 : num_stages;
  const uint8_t* chunk = s.weights[0] + group * C::kBlockBytes + warp * Format::kChunkBytes;
  const uint8_t* lane_codes = chunk + lane * 16;
  const uint8_t* lane_scales = chunk + 1024 + lane * sizeof(typename Format::Scales);
  uint32_t tokens = wgmma_start(smem_address(s.tokens[0]));
  bool is_leader = lane == 0;
  float d[kTokens / 2] = {};
  uint32_t a[2][kBatch][4];
  for (int at = 0; at < working; ++at) {
    wait(&s.full[place.slot], place.parity);
    auto scales = *reinterpret_cast<const typename Format::Scales*>(lane_scales + place.slot * C::kWeightBytes);
    uint32_t stage_tokens = tokens + place.slot * (C::kTokenBytes >> 4);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t both = Format::expand(scales, Format::selector(half));
      uint4 codes = *reinterpret_cast<const uint4*>(lane_codes + place.slot * C::kWeightBytes + half * 512);
      const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
      for (int batch = 0; batch < 4 / kBatch; ++batch) {
        int buffer = (half * (4 / kBatch) + batch) & 1;
#pragma unroll
        for (int i = 0; i < kBatch; ++i) dequantize(words[batch * kBatch + i], both, a[buffer][i]);
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
          Wgmma<kTokens>::run(d, a[buffer][i], stage_tokens + ((half * 1024 + (batch * kBatch + i) * 32) >> 4), kLayout);
        wgmma_commit();
        wgmma_wait<1>();
        if (half == 0 && batch == 0 && at > 0 && is_leader) arrive(&s.empty[place.before()]);  // its products are done
      }
    }
    place.step();
  }
  wgmma_wait<0>();
  fence_registers(d);
  if (working > 0 && is_leader) arrive(&s.empty[place.before()]);
  for (int at = working; at < num_stages; ++at, place.step()) {  // no rows: gives the stages back
    wait(&s.full[place.slot], place.parity);
    if (is_leader) arrive(&s.empty[place.slot]);
  }
  if (row_block >= 0) write_sums<C, kTokens>(p, s, is_first, tile, row_block * 4 + warp, d);
}

// By the product that is just wide enough for so many tokens. `place`: in the ring; `turn`: the segment's number.
template <class C, int kTokens = C::kMinTokens>
__device__ __forceinline__ void multiply(const Params& p, Shared<C>& s, const Segment& segment, RingPlace<C::kStages>& place, int turn,
                                         int tokens) {
  if constexpr (kTokens < C::kMaxTokens)
    if (tokens > kTokens) return multiply<C, kTokens / C::kTokenStep * C::kTokenStep + C::kTokenStep>(p, s, segment, place, turn, tokens);
  if constexpr (C::kIsNarrow) multiply_narrow<C, kTokens>(p, s, segment, place, turn);
  else multiply_wide<C, kTokens>(p, s, segment, place);
}

}  // namespace
}  // namespace fp4moe
