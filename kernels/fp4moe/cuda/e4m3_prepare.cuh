// What lies before and between the two products: slots sorted by expert, rows rounded to E4M3 in the order of the tensor core.
//
// A row's scale is amax / 448 (1 for a row of zeros, NaN for one with NaN or infinity). Rows lie as [chunk of 128 k][groups of 8
// positions][8][128 bytes], 128-byte swizzle, permuted as the weights are: the 16 bytes at place c hold k = 32 t + 4 c + 0..3, t = 0..3.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cstdint>

#include "sm90_async.cuh"

namespace fp4moe {

constexpr int kMaxExperts = 64;
constexpr int kMaxSlots = 8192;
constexpr int kMostTokens = 256;                 // of a tile
constexpr int kMaxTiles = kMaxSlots / 8 + kMaxExperts;
constexpr int kSortThreads = 512, kSortWarps = kSortThreads / 32;
constexpr int kMaxRowThreads = 1024, kChunksAThread = 2;

struct Tile { int expert, first, count, run_first, run_tiles; };  // slots of one expert; the tiles of that expert

struct Slots {                                   // in global memory
  int num_tiles, num_positions;
  Tile tiles[kMaxTiles];
  int position_of_slot[kMaxSlots];
  int slot_of_position[kMaxSlots + 8 * kMaxExperts];  // -1 where there is none
};

__device__ __forceinline__ int sum_before(int value) {  // over the lanes below
  int lane = threadIdx.x & 31, sum = value;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    int other = __shfl_up_sync(~0u, sum, step);
    if (lane >= step) sum += other;
  }
  return sum - value;
}

// One warp, one expert a lane: where the slots of every (expert, warp) begin, and the tiles, all of an expert's equally long.
__device__ inline void make_tiles(Slots& slots, int (&counts)[kSortWarps][kMaxExperts], int num_experts, int most) {
  int positions = 0, tiles = 0, lane = threadIdx.x & 31;
  for (int base = 0; base < num_experts; base += 32) {
    int expert = base + lane, count = 0;
    bool is_there = expert < num_experts;
    for (int warp = 0; warp < kSortWarps && is_there; ++warp) {
      int own = counts[warp][expert];
      counts[warp][expert] = count, count += own;
    }
    int num = (count + most - 1) / most, width = num ? ((count + num - 1) / num + 7) & ~7 : 0;
    int first = positions + sum_before((count + 7) & ~7), first_tile = tiles + sum_before(num);
    if (is_there) {
      for (int warp = 0; warp < kSortWarps; ++warp) counts[warp][expert] += first;
      for (int i = 0; i < num; ++i)
        slots.tiles[first_tile + i] = {expert, first + i * width, min(width, count - i * width), first_tile, num};
    }
    positions = __shfl_sync(~0u, first + ((count + 7) & ~7), 31), tiles = __shfl_sync(~0u, first_tile + num, 31);
  }
  if (lane == 0) slots.num_tiles = tiles, slots.num_positions = positions;
}

// One block: stable counting sort of the slots by expert; every expert begins on a multiple of 8.
__global__ void __launch_bounds__(kSortThreads) sort_slots(const int* expert_ids, Slots* to, int num_slots, int num_experts, int most) {
  __shared__ int counts[kSortWarps][kMaxExperts];
  __shared__ uint8_t expert_of_slot[kMaxSlots];   // read at once: one after another, each would wait for memory
  start_next_kernel();
  Slots& slots = *to;
  int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
  int share = (num_slots + kSortThreads - 1) / kSortThreads * 32, begin = warp * share, end = min(begin + share, num_slots);
  for (int i = threadIdx.x; i < kSortWarps * kMaxExperts; i += kSortThreads) (&counts[0][0])[i] = 0;
  for (int i = threadIdx.x; i < num_slots + 8 * num_experts; i += kSortThreads) slots.slot_of_position[i] = -1;
#pragma unroll 8
  for (int i = threadIdx.x; i < num_slots; i += kSortThreads) expert_of_slot[i] = expert_ids[i];
  __syncthreads();
  for (int i = begin + lane; i - lane < end; i += 32) {
    int expert = i < end ? expert_of_slot[i] : -1;
    unsigned same = __match_any_sync(~0u, expert);
    if (expert >= 0 && lane == __ffs(same) - 1) counts[warp][expert] += __popc(same);
    __syncwarp();
  }
  __syncthreads();
  if (warp == 0) make_tiles(slots, counts, num_experts, most);
  __syncthreads();
  for (int i = begin + lane; i - lane < end; i += 32) {
    int expert = i < end ? expert_of_slot[i] : -1;
    unsigned same = __match_any_sync(~0u, expert);
    if (expert >= 0) {
      int position = counts[warp][expert] + __popc(same & ((1u << lane) - 1));
      slots.position_of_slot[i] = position, slots.slot_of_position[position] = i;
    }
    __syncwarp();
    if (expert >= 0 && lane == __ffs(same) - 1) counts[warp][expert] += __popc(same);
    __syncwarp();
  }
}

__device__ __forceinline__ float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ __forceinline__ float4 load4(const __nv_bfloat16* from) {
  uint2 v = *reinterpret_cast<const uint2*>(from);
  return make_float4(__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xffff0000u), __uint_as_float(v.y << 16),
                     __uint_as_float(v.y & 0xffff0000u));
}

// v / scale, rounded to nearest: BF16 values over BF16 / 448 lie on ties of E4M3 often. `inverse` is 1 / scale.
__device__ __forceinline__ float quotient(float v, float scale, float inverse) {
  float q = v * inverse;
  return fmaf(fmaf(-q, scale, v), inverse, q);
}

__device__ __forceinline__ uint32_t to_e4m3(float4 v, float scale, float inverse) {
  float2 low = make_float2(quotient(v.x, scale, inverse), quotient(v.y, scale, inverse));
  float2 high = make_float2(quotient(v.z, scale, inverse), quotient(v.w, scale, inverse));
  uint32_t high_bits = __nv_cvt_float2_to_fp8x2(high, __NV_SATFINITE, __NV_E4M3);
  return __nv_cvt_float2_to_fp8x2(low, __NV_SATFINITE, __NV_E4M3) | high_bits << 16;
}

// One row by one block, kept in registers between the two passes. `store(chunk of 128 k, place, 16 bytes)`. Gives the scale.
template <class In, class Store>
__device__ float round_row(const In* row, int k, Store store) {
  __shared__ unsigned largest_of_warp[32];
  int num = k / 16;
  float4 v[kChunksAThread][4];
  unsigned largest = 0;
#pragma unroll
  for (int n = 0; n < kChunksAThread; ++n) {
    int i = threadIdx.x + n * blockDim.x;
    if (i >= num) break;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      v[n][t] = load4(row + i / 8 * 128 + 32 * t + i % 8 * 4);
      const float values[4] = {v[n][t].x, v[n][t].y, v[n][t].z, v[n][t].w};
#pragma unroll
      for (int j = 0; j < 4; ++j) largest = max(largest, __float_as_uint(values[j]) & 0x7fffffffu);  // NaN is above infinity
    }
  }
  largest = __reduce_max_sync(~0u, largest);
  if ((threadIdx.x & 31) == 0) largest_of_warp[threadIdx.x / 32] = largest;
  __syncthreads();
  largest = __reduce_max_sync(~0u, (threadIdx.x & 31) < blockDim.x / 32 ? largest_of_warp[threadIdx.x & 31] : 0u);
  float amax = __uint_as_float(largest), scale = amax == 0.0f ? 1.0f : fmaxf(__fdiv_rn(amax, 448.0f), 0x1p-126f);
  if (largest >= 0x7f800000u) scale = __uint_as_float(0x7fc00000u);
  float inverse = __frcp_rn(scale);
#pragma unroll
  for (int n = 0; n < kChunksAThread; ++n) {
    int i = threadIdx.x + n * blockDim.x;
    if (i >= num) break;
    uint4 bytes;
    bytes.x = to_e4m3(v[n][0], scale, inverse), bytes.y = to_e4m3(v[n][1], scale, inverse);
    bytes.z = to_e4m3(v[n][2], scale, inverse), bytes.w = to_e4m3(v[n][3], scale, inverse);
    store(i / 8, i % 8, bytes);
  }
  return scale;
}

__device__ __forceinline__ uint4* place_of(uint8_t* rows, int capacity, int position, int chunk, int place) {
  size_t group = static_cast<size_t>(chunk) * capacity + position / 8;
  return reinterpret_cast<uint4*>(rows + group * 1024 + (position % 8) * 128 + ((place ^ position) & 7) * 16);
}

// A block a token: x to the places of its slots.
template <class In>
__global__ void __launch_bounds__(kMaxRowThreads) round_tokens(const In* x, const Slots* slots, uint8_t* xs, float* x_scale, int top_k,
                                                               int hidden, int capacity) {
  start_next_kernel(), wait_for_last_kernel();
  int token = blockIdx.x;
  const int* positions = slots->position_of_slot + token * top_k;
  float scale = round_row(x + static_cast<size_t>(token) * hidden, hidden, [&](int chunk, int place, uint4 bytes) {
    for (int k = 0; k < top_k; ++k) *place_of(xs, capacity, positions[k], chunk, place) = bytes;
  });
  for (int k = threadIdx.x; k < top_k; k += blockDim.x) x_scale[positions[k]] = scale;
}

// A block a position: h, and what the second product of that slot is multiplied by.
__global__ void __launch_bounds__(kMaxRowThreads) round_activations(const __nv_bfloat16* h, const Slots* slots, const float* gate_weights,
                                                                    uint8_t* hs, float* h_scale, int* token_of_position, int top_k,
                                                                    int intermediate, int capacity) {
  start_next_kernel(), wait_for_last_kernel();
  int position = blockIdx.x, slot = position < slots->num_positions ? slots->slot_of_position[position] : -1;
  if (slot < 0) return;
  float scale = round_row(h + static_cast<size_t>(position) * intermediate, intermediate, [&](int chunk, int place, uint4 bytes) {
    *place_of(hs, capacity, position, chunk, place) = bytes;
  });
  if (threadIdx.x == 0) h_scale[position] = scale * gate_weights[slot], token_of_position[position] = slot / top_k;
}

__global__ void to_bf16(const float* from, __nv_bfloat16* to, int num_quads) {
  wait_for_last_kernel();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < num_quads; i += gridDim.x * blockDim.x) {
    float4 v = reinterpret_cast<const float4*>(from)[i];
    __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y), high = __floats2bfloat162_rn(v.z, v.w);
    reinterpret_cast<uint2*>(to)[i] = make_uint2(reinterpret_cast<uint32_t&>(low), reinterpret_cast<uint32_t&>(high));
  }
}

}  // namespace fp4moe
