// One Mixture-of-Experts layer, FP4 weights x BF16 activations, any number of tokens, in one persistent kernel (sm_90a).
//
//   phase 1   h[slot, f] = silu(gate_e x[token]) * (up_e x[token])
//   phase 2   y[token, d] = sum over slots of weight[slot] * down_e h[slot]
//
// In: weights packed by layout.py, x [M, D] BF16, expert ids and gate weights [M, top_k]. Out: y [M, D] float32.
// Weight rows are wgmma's M and come from registers, dequantized there; tokens are its N and come from shared memory.
//
// A block is four warpgroups that multiply and two threads that copy. Per stage these bring kRowGroups x 64 rows x
// kKGroups x 128 k of weights and the tokens' values for that k into a ring; warpgroup (r, c) takes rows 64 r.. and k 128 c...
// The weights of a stage are asked for long before its tokens' values exist: the ring stays full across the grid's barriers.
//
// Tokens' values lie in global scratch as the tensor core reads them: [stage of k][8 slots][64 k][1024 bytes, 128-byte swizzle],
// slots sorted by expert, each expert's first slot on a multiple of 8. Inside 128 k they are permuted as the weights are.
#include <cuda_bf16.h>
#include <cstdint>

#include "fp4_fragments.cuh"
#include "sm90_async.cuh"
#include "wgmma_sm90.cuh"

namespace fp4moe {
namespace {

constexpr int kGroups = 4;                       // warpgroups that multiply
constexpr int kWorkers = kGroups * 128;
constexpr int kThreads = kWorkers + 128;       // the last four warps: two copy; registers go by warpgroup
constexpr int kWorkerRegisters = 112, kCopierRegisters = 32;
constexpr int kMaxExperts = 64;
constexpr int kMaxSlots = 8192;
constexpr int kMaxSorted = kMaxSlots + 8 * kMaxExperts;
constexpr int kRowsTogether = 16;                // row blocks that go over all tiles of an expert before the next ones
constexpr uint16_t kNoSlot = 0xffff;
constexpr int kSmemBytes = 227 * 1024;

struct Params {
  const uint8_t* w1;                             // [E][row block of 64][chunk of 128 k][4][chunk bytes]
  const uint8_t* w2;
  const float* scale1;                           // [E][gate, up] times 2^8
  const float* scale2;                           // [E] times 2^8
  const __nv_bfloat16* x;                        // [M, D]
  const int* expert_ids;                         // [M, top_k]
  const float* gate_weights;                     // [M, top_k]
  uint8_t* xs;                                   // scratch: x and h as described above
  uint8_t* hs;
  float* y;                                      // [M, D]
  unsigned* barrier;
  int num_tokens, top_k, num_experts, hidden, intermediate;
  int capacity;                                  // groups of 8 slots in xs and hs
};

struct Tile { int expert, first, count; };       // up to kMaxTokens slots of one expert
struct Run { int first_tile, num_tiles; };       // the tiles of one expert

// Stages [begin, end) of one tile of slots x one block of rows.
struct Segment {
  int is_first, tile, row_block, begin, end;
};

template <class Format, int kMaxTokens_, int kRowGroups_, int kKGroups_>
struct Config {
  using Weights = Format;
  static constexpr int kMaxTokens = kMaxTokens_, kRowGroups = kRowGroups_, kKGroups = kKGroups_;
  static_assert(kRowGroups * kKGroups == kGroups);
  static constexpr bool kIsNarrow = kMaxTokens <= 16;           // mma.sync, tokens' values through registers
  static constexpr int kBlockBytes = 4 * Format::kChunkBytes;   // 64 rows x 128 k
  static constexpr int kWeightBytes = kGroups * kBlockBytes;
  static constexpr int kAtoms = 2 * kKGroups;                   // of 64 k in a stage
  static constexpr int kTokenBytes = kMaxTokens * kAtoms * 128;
  static constexpr int kMaxTiles = kMaxSlots / 128 + 2 * kMaxExperts;
  static constexpr int kExchangeFloats = kKGroups == 1 ? 0 : 2 * (kKGroups - 1) * kRowGroups * 64 * kMaxTokens;
  static constexpr int kFixedBytes = kExchangeFloats * 4 + kMaxSorted * 2 + kMaxTiles * 24 + kGroups * 4 * kMaxExperts * 4 + 5120;
  static constexpr int kStages = (kSmemBytes - kFixedBytes) / (kWeightBytes + kTokenBytes);
  static constexpr int kQueue = kStages + 2;     // an entry is read before its stages are free again
};

template <class C>
struct Shared {
  alignas(1024) uint8_t tokens[C::kStages][C::kTokenBytes];
  alignas(128) uint8_t weights[C::kStages][C::kWeightBytes];
  alignas(16) float exchange[C::kExchangeFloats + 4];
  alignas(8) uint64_t full[C::kStages], empty[C::kStages], queued[C::kQueue];
  uint16_t order[kMaxSorted];                    // sorted position -> slot
  Tile tiles[C::kMaxTiles];
  short run_of_tile[C::kMaxTiles];
  Run runs[kMaxExperts];
  int counts[kGroups * 4][kMaxExperts];          // of each warp, then where its slots of an expert begin
  Segment queue[C::kQueue];                      // from the copying warp to the workers; tile < 0 ends
  int num_tiles, num_sorted;
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

// One warp, one expert a lane: where the slots of every (expert, warp) begin, the tiles, the runs of tiles.
template <class C>
__device__ void make_tiles(const Params& p, Shared<C>& s) {
  int sorted = 0, tiles = 0, runs = 0, lane = threadIdx.x & 31;
  for (int base = 0; base < p.num_experts; base += 32) {
    int expert = base + lane, count = 0, counts[kGroups * 4];
    bool is_there = expert < p.num_experts;
#pragma unroll
    for (int w = 0; w < kGroups * 4; ++w) counts[w] = is_there ? s.counts[w][expert] : 0;
#pragma unroll
    for (int w = 0; w < kGroups * 4; ++w) {
      int before = count;
      count += counts[w], counts[w] = before;
    }
    int padded = (count + 7) & ~7, num_tiles = (count + C::kMaxTokens - 1) / C::kMaxTokens;
    int first = sorted + sum_before(padded), first_tile = tiles + sum_before(num_tiles), run = runs + sum_before(count > 0);
    if (is_there) {
#pragma unroll
      for (int w = 0; w < kGroups * 4; ++w) s.counts[w][expert] = first + counts[w];
      if (count > 0) s.runs[run] = {first_tile, num_tiles};
      for (int tile = 0; tile < num_tiles; ++tile) {
        int at = tile * C::kMaxTokens;
        s.tiles[first_tile + tile] = {expert, first + at, min(C::kMaxTokens, count - at)};
        s.run_of_tile[first_tile + tile] = run;
      }
    }
    sorted = __shfl_sync(~0u, first + padded, 31), tiles = __shfl_sync(~0u, first_tile + num_tiles, 31);
    runs = __shfl_sync(~0u, run + (count > 0), 31);
  }
  if (lane == 0) s.num_tiles = tiles, s.num_sorted = sorted;
}

// Stable counting sort of the slots by expert, by all workers; every expert begins on a multiple of 8.
template <class C>
__device__ void sort_slots(const Params& p, Shared<C>& s) {
  int num_slots = p.num_tokens * p.top_k, warp = threadIdx.x / 32, lane = threadIdx.x & 31;
  int share = (num_slots + kWorkers - 1) / kWorkers * 32, begin = warp * share, end = min(begin + share, num_slots);
  for (int i = threadIdx.x; i < kGroups * 4 * kMaxExperts; i += kWorkers) (&s.counts[0][0])[i] = 0;
  for (int i = threadIdx.x; i < (num_slots + 8 * p.num_experts); i += kWorkers) s.order[i] = kNoSlot;
  named_barrier(1, kWorkers);
  for (int i = begin + lane; i - lane < end; i += 32) {
    int expert = i < end ? p.expert_ids[i] : -1;
    unsigned same = __match_any_sync(~0u, expert);
    if (expert >= 0 && lane == __ffs(same) - 1) s.counts[warp][expert] += __popc(same);
    __syncwarp();
  }
  named_barrier(1, kWorkers);
  if (warp == 0) make_tiles(p, s);
  named_barrier(1, kWorkers);
  for (int i = begin + lane; i - lane < end; i += 32) {
    int expert = i < end ? p.expert_ids[i] : -1;
    unsigned same = __match_any_sync(~0u, expert);
    if (expert >= 0) s.order[s.counts[warp][expert] + __popc(same & ((1u << lane) - 1))] = i;
    __syncwarp();
    if (expert >= 0 && lane == __ffs(same) - 1) s.counts[warp][expert] += __popc(same);
    __syncwarp();
  }
}

// The 1024 bytes of (sorted position / 8, 64 k) in xs or hs.
template <class C>
__device__ __forceinline__ size_t atom_byte(const Params& p, int position, int atom) {
  size_t group = static_cast<size_t>(atom / C::kAtoms) * p.capacity + position / 8;
  return (group * C::kAtoms + atom % C::kAtoms) * 1024;
}

// In it: the two values at positions 16 step + 8 pair + 2 t of a row.
template <class C>
__device__ __forceinline__ int pair_byte(int row, int step, int pair, int t) {
  if constexpr (C::kIsNarrow) return step / 2 * 512 + (row * 4 + t) * 16 + step % 2 * 8 + pair * 4;
  return row * 128 + ((step * 2 + pair) ^ row) * 16 + t * 4;
}

// x of every sorted slot into xs: 8 k of one lane, t and half, at a time. k = 32 t + 16 half + 4 step + 2 pair + odd.
template <class C>
__device__ void gather_tokens(const Params& p, const Shared<C>& s) {
  int chunks = p.hidden / 8, worker = blockIdx.x * kWorkers + threadIdx.x;
  for (int i = worker; i < s.num_sorted * chunks; i += gridDim.x * kWorkers) {
    int position = i / chunks, chunk = i % chunks, slot = s.order[position];
    if (slot == kNoSlot) continue;
    uint4 v = *(reinterpret_cast<const uint4*>(p.x + static_cast<size_t>(slot / p.top_k) * p.hidden) + chunk);
    int t = chunk / 4 % 4, half = chunk / 2 % 2, step = chunk % 2 * 2, row = position % 8;
    uint8_t* to = p.xs + atom_byte<C>(p, position, chunk / 16 * 2 + half);
    if constexpr (C::kIsNarrow) {
      *reinterpret_cast<uint4*>(to + pair_byte<C>(row, step, 0, t)) = v;
    } else {
      const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int pair = 0; pair < 4; ++pair)
        *reinterpret_cast<uint32_t*>(to + pair_byte<C>(row, step + pair / 2, pair % 2, t)) = pairs[pair];
    }
  }
  for (int i = worker; i < p.num_tokens * p.hidden / 4; i += gridDim.x * kWorkers)
    reinterpret_cast<float4*>(p.y)[i] = make_float4(0, 0, 0, 0);
}

// This block's segments in order. Phase 1: whole units, one in gridDim.x. Phase 2: the same, and what is left over is cut into
// equal shares of stages.
template <class C>
struct Walk {
  const Shared<C>& s;
  int blocks1, stages1, blocks2, stages2, units1, full2, at1, at2;
  int tail, tail_end;

  __device__ Walk(const Params& p, const Shared<C>& shared) : s(shared) {
    constexpr int rows = 64 * C::kRowGroups, k = 128 * C::kKGroups;
    blocks1 = (2 * p.intermediate + rows - 1) / rows, stages1 = (p.hidden + k - 1) / k;
    blocks2 = (p.hidden + rows - 1) / rows, stages2 = (p.intermediate + k - 1) / k;
    int grid = gridDim.x, block = blockIdx.x, units2 = s.num_tiles * blocks2;
    units1 = s.num_tiles * blocks1, full2 = units2 / grid * grid, at1 = at2 = block;
    long long left = static_cast<long long>(units2 - full2) * stages2;
    auto offset = [&](long long b) { return static_cast<int>(left * b / grid); };
    tail = offset(block), tail_end = offset(block + 1);
  }

  __device__ bool next(Segment& segment) {
    if (at1 < units1) {
      place(segment, at1, blocks1), segment.is_first = true, segment.begin = 0, segment.end = stages1;
      at1 += gridDim.x;
    } else if (at2 < full2) {
      place(segment, at2, blocks2), segment.is_first = false, segment.begin = 0, segment.end = stages2;
      at2 += gridDim.x;
    } else if (tail < tail_end) {
      place(segment, full2 + tail / stages2, blocks2), segment.is_first = false, segment.begin = tail % stages2;
      segment.end = min(stages2, segment.begin + tail_end - tail);
      tail += segment.end - segment.begin;
    } else {
      return false;
    }
    return true;
  }

  // Within an expert: some row blocks over all its tiles, then the next row blocks, so that both stay in the L2.
  __device__ void place(Segment& segment, int unit, int blocks) const {
    Run run = s.runs[s.run_of_tile[unit / blocks]];
    int at = unit - run.first_tile * blocks, together = kRowsTogether * run.num_tiles, part = at / together;
    int rows = min(kRowsTogether, blocks - part * kRowsTogether), within = at % together;
    segment.tile = run.first_tile + within / rows, segment.row_block = part * kRowsTogether + within % rows;
  }
};

// The width of the product that serves a tile.
template <class C>
__device__ __forceinline__ int round_tokens(int count) {
  if constexpr (C::kMaxTokens >= 128) return count <= 32 ? 32 : count <= 64 ? 64 : count <= 96 ? 96 : 128;
  return count <= 8 ? 8 : count <= 16 ? 16 : count <= 32 ? 32 : 64;
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

// One thread: the weights of every stage as soon as its slot is free.
template <class C>
__device__ void copy_weights(const Params& p, Shared<C>& s) {
  uint64_t stream = evict_first(), keep = evict_last();
  Walk<C> walk(p, s);
  Segment segment;
  RingPlace<C::kStages> place;
  RingPlace<C::kQueue> entry;
  auto hand_over = [&] {
    s.queue[entry.slot] = segment;
    arrive(&s.queued[entry.slot]), entry.step();
  };
  while (walk.next(segment)) {
    const Tile& tile = s.tiles[segment.tile];
    int row_blocks = (segment.is_first ? 2 * p.intermediate : p.hidden) / 64, first = segment.row_block * C::kRowGroups;
    int chunks = (segment.is_first ? p.hidden : p.intermediate) / 128;
    int rows = min(C::kRowGroups, row_blocks - first);
    const uint8_t* from = segment.is_first ? p.w1 : p.w2;
    size_t row_bytes = static_cast<size_t>(chunks) * C::kBlockBytes;
    from += (static_cast<size_t>(tile.expert) * row_blocks + first) * row_bytes + segment.begin * (C::kKGroups * C::kBlockBytes);
    uint64_t policy = s.runs[s.run_of_tile[segment.tile]].num_tiles > 1 ? keep : stream;
    int left = chunks - segment.begin * C::kKGroups;
    for (int stage = segment.begin; stage < segment.end; ++stage) {
      wait(&s.empty[place.slot], place.parity ^ 1);
      if (stage == segment.begin) hand_over();
      uint32_t bytes = min(C::kKGroups, left) * C::kBlockBytes;
      arrive_expect(&s.full[place.slot], rows * bytes);
      uint8_t* to = s.weights[place.slot];
      const uint8_t* at = from;
      for (int row = 0; row < rows; ++row, to += C::kKGroups * C::kBlockBytes, at += row_bytes)
        bulk_load(to, at, bytes, &s.full[place.slot], policy);
      from += C::kKGroups * C::kBlockBytes, left -= C::kKGroups;
      place.step();
    }
  }
  wait(&s.empty[place.slot], place.parity ^ 1);
  segment.tile = -1;
  hand_over();
}

// One thread: the tokens' values of every stage as soon as its slot is free and they exist.
template <class C>
__device__ void copy_tokens(const Params& p, Shared<C>& s) {
  uint64_t keep = evict_last();
  Walk<C> walk(p, s);
  Segment segment;
  RingPlace<C::kStages> place;
  int passed = -1;                               // barriers of the grid
  while (walk.next(segment)) {
    const Tile& tile = s.tiles[segment.tile];
    int needed = segment.is_first ? 0 : 1;
    if (passed < needed) {
      while (!grid_passed(p.barrier, needed)) {}
      fence_async_proxy();
      passed = needed;
    }
    uint32_t bytes = round_tokens<C>(tile.count) * (C::kAtoms * 128);
    size_t stride = static_cast<size_t>(p.capacity) * (C::kAtoms * 1024);
    const uint8_t* from = (segment.is_first ? p.xs : p.hs) + segment.begin * stride + tile.first / 8 * (C::kAtoms * 1024);
    for (int stage = segment.begin; stage < segment.end; ++stage, from += stride) {
      wait(&s.empty[place.slot], place.parity ^ 1);
      arrive_expect(&s.full[place.slot], bytes);
      bulk_load(s.tokens[place.slot], from, bytes, &s.full[place.slot], keep);
      place.step();
    }
  }
}

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
    if (token < tile.count)
      *reinterpret_cast<__nv_bfloat162*>(p.hs + atom_byte<C>(p, tile.first + token, row_tile / 8) +
                                         pair_byte<C>(token & 7, row_tile / 2 % 4, row_tile % 2, g / 2)) = pair;
  }
}

template <class C, int kTokens>
__device__ void add_outputs(const Params& p, const Shared<C>& s, const Tile& tile, int row_tile, const float (&d)[kTokens / 2]) {
  int lane = threadIdx.x & 31, t = lane & 3, row = row_tile * 16 + lane / 4;
  float scale = p.scale2[tile.expert];
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j) {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      int token = 8 * j + 2 * t + odd;
      if (token >= tile.count) continue;
      int slot = s.order[tile.first + token];
      float weight = p.gate_weights[slot] * scale;
      float* to = p.y + static_cast<size_t>(slot / p.top_k) * p.hidden + row;
      atomicAdd(to, d[4 * j + odd] * weight), atomicAdd(to + 8, d[4 * j + 2 + odd] * weight);
    }
  }
}

template <int kCount>
__device__ __forceinline__ void fence_registers(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// 16 rows x 128 k of a warp times up to 16 tokens, through mma.sync: less to issue than wgmma where tokens are few.
template <class Format, int kTokens, int kAtoms>
__device__ __forceinline__ void multiply_narrow(const uint8_t* codes, const uint8_t* scales, const uint8_t* tokens, float (&d)[kTokens / 2]) {
  auto scale = *reinterpret_cast<const typename Format::Scales*>(scales);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t low = Format::expand(scale, half, 0), high = Format::expand(scale, half, 1);
    uint4 v = *reinterpret_cast<const uint4*>(codes + half * 512);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int step = 0; step < 4; step += 2) {
      uint32_t a[2][4];
      dequantize(words[step], low, high, a[0]), dequantize(words[step + 1], low, high, a[1]);
#pragma unroll
      for (int group = 0; group < kTokens / 8; ++group) {
        uint4 b = *reinterpret_cast<const uint4*>(tokens + group * (kAtoms * 1024) + half * 1024 + step / 2 * 512);
        mma(d + group * 4, a[0], b.x, b.y), mma(d + group * 4, a[1], b.z, b.w);
      }
    }
  }
}

// One segment by all workers. `place`: in the ring; `turn`: the segment's number.
template <class C, int kTokens>
__device__ __forceinline__ void multiply(const Params& p, Shared<C>& s, const Segment& segment, RingPlace<C::kStages>& place, int turn) {
  using Format = typename C::Weights;
  constexpr int kBatch = C::kMaxTokens > 64 ? 1 : 2;  // words expanded while the ones before are multiplied
  int group = __shfl_sync(~0u, threadIdx.x / 128, 0), warp = threadIdx.x / 32 & 3, lane = threadIdx.x & 31;
  int row_group = group / C::kKGroups, k_group = group % C::kKGroups;
  const Tile tile = s.tiles[segment.tile];
  bool is_first = segment.is_first;
  int row_blocks = (is_first ? 2 * p.intermediate : p.hidden) / 64, row_block = segment.row_block * C::kRowGroups + row_group;
  int chunks = (is_first ? p.hidden : p.intermediate) / 128, num_stages = segment.end - segment.begin;
  // The stages in which this warpgroup has rows and k; only the last can be short of k.
  int working = row_block >= row_blocks ? 0 : min(num_stages, (chunks - k_group + C::kKGroups - 1) / C::kKGroups - segment.begin);
  const uint8_t* lane_codes = s.weights[0] + group * C::kBlockBytes + warp * Format::kChunkBytes + lane * 16;
  const uint8_t* lane_scales = s.weights[0] + group * C::kBlockBytes + warp * Format::kChunkBytes + 1024 +
                               lane * sizeof(typename Format::Scales);
  uint32_t tokens = wgmma_start(smem_address(s.tokens[0]) + k_group * 2048);
  constexpr uint32_t kLayout = wgmma_layout(C::kAtoms * 1024);
  bool is_leader = lane == 0;
  float d[kTokens / 2];
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) d[i] = 0.0f;
  if constexpr (C::kIsNarrow) {
    const uint8_t* lane_tokens = s.tokens[0] + k_group * 2048 + lane * 16;
    for (int at = 0; at < working; ++at, place.step()) {
      wait(&s.full[place.slot], place.parity);
      multiply_narrow<Format, kTokens, C::kAtoms>(lane_codes + place.slot * C::kWeightBytes, lane_scales + place.slot * C::kWeightBytes,
                                                  lane_tokens + place.slot * C::kTokenBytes, d);
      __syncwarp();
      if (is_leader) arrive(&s.empty[place.slot]);
    }
  } else {
    uint32_t a[2][kBatch][4];
    for (int at = 0; at < working; ++at) {
      wait(&s.full[place.slot], place.parity);
      auto scales = *reinterpret_cast<const typename Format::Scales*>(lane_scales + place.slot * C::kWeightBytes);
      uint32_t stage_tokens = tokens + place.slot * (C::kTokenBytes >> 4);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t low = Format::expand(scales, half, 0), high = Format::expand(scales, half, 1);
        uint4 codes = *reinterpret_cast<const uint4*>(lane_codes + place.slot * C::kWeightBytes + half * 512);
        const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
        for (int batch = 0; batch < 4 / kBatch; ++batch) {
          int buffer = (half * (4 / kBatch) + batch) & 1;
#pragma unroll
          for (int i = 0; i < kBatch; ++i) dequantize(words[batch * kBatch + i], low, high, a[buffer][i]);
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
  }
  for (int at = max(working, 0); at < num_stages; ++at, place.step()) {
    wait(&s.full[place.slot], place.parity);
    if (lane == 0) arrive(&s.empty[place.slot]);
  }

  if constexpr (C::kKGroups > 1) {               // sum over the k groups
    constexpr int kOthers = C::kKGroups - 1;
    float4* box = reinterpret_cast<float4*>(s.exchange) + (turn & 1) * (C::kExchangeFloats / 8);
    int thread = threadIdx.x & 127, place_of = (k_group - turn - 1) & kOthers;  // another group adds up each time
    if (place_of < kOthers)
#pragma unroll
      for (int j = 0; j < kTokens / 8; ++j)
        box[((row_group * kOthers + place_of) * (C::kMaxTokens / 8) + j) * 128 + thread] =
            make_float4(d[4 * j], d[4 * j + 1], d[4 * j + 2], d[4 * j + 3]);
    named_barrier(1, kWorkers);
    if (place_of < kOthers) return;
#pragma unroll
    for (int other = 0; other < kOthers; ++other)
#pragma unroll
      for (int j = 0; j < kTokens / 8; ++j) {
        float4 v = box[((row_group * kOthers + other) * (C::kMaxTokens / 8) + j) * 128 + thread];
        d[4 * j] += v.x, d[4 * j + 1] += v.y, d[4 * j + 2] += v.z, d[4 * j + 3] += v.w;
      }
  }
  if (row_block >= row_blocks) return;
  if (is_first) store_activations<C, kTokens>(p, tile, row_block * 4 + warp, d);
  else add_outputs<C, kTokens>(p, s, tile, row_block * 4 + warp, d);
}

template <class C>
__device__ __forceinline__ void multiply_tokens(const Params& p, Shared<C>& s, const Segment& segment, RingPlace<C::kStages>& place,
                                                int turn) {
  int tokens = round_tokens<C>(s.tiles[segment.tile].count);
  if constexpr (C::kMaxTokens == 128) {
    if (tokens == 128) multiply<C, 128>(p, s, segment, place, turn);
    else if (tokens == 96) multiply<C, 96>(p, s, segment, place, turn);
    else if (tokens == 64) multiply<C, 64>(p, s, segment, place, turn);
    else multiply<C, 32>(p, s, segment, place, turn);
  } else {
    if constexpr (C::kMaxTokens >= 64)
      if (tokens == 64) return multiply<C, 64>(p, s, segment, place, turn);
    if constexpr (C::kMaxTokens >= 32)
      if (tokens == 32) return multiply<C, 32>(p, s, segment, place, turn);
    if constexpr (C::kMaxTokens >= 16)
      if (tokens == 16) return multiply<C, 16>(p, s, segment, place, turn);
    multiply<C, 8>(p, s, segment, place, turn);
  }
}

template <class C>
__device__ __forceinline__ void work(const Params& p, Shared<C>& s) {
  RingPlace<C::kStages> place;
  RingPlace<C::kQueue> entry;
  int turn = 0;
  bool was_first = true;
  auto end_phase = [&] {                         // this block's h is written
    fence_async_proxy();
    named_barrier(1, kWorkers);
    if (threadIdx.x == 0) grid_arrive_after(p.barrier, 0);
  };
  for (;; entry.step(), ++turn) {
    wait(&s.queued[entry.slot], entry.parity);
    const Segment& segment = s.queue[entry.slot];
    if (segment.tile < 0) break;
    if (was_first && !segment.is_first) end_phase(), was_first = false;
    multiply_tokens<C>(p, s, segment, place, turn);
  }
  if (was_first) end_phase();
  if (threadIdx.x == 0) {                        // y is complete when the kernel ends: nobody waits for it here
    while (!grid_passed(p.barrier, 1)) {}        // else a block without work would count twice for the others' h
    grid_leave(p.barrier, 2);
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) moe_layer(const Params p) {
  extern __shared__ __align__(1024) uint8_t raw[];
  Shared<C>& s = *reinterpret_cast<Shared<C>*>(raw);
  bool is_worker = threadIdx.x < kWorkers;
  if (threadIdx.x == kWorkers) {
    for (int slot = 0; slot < C::kStages; ++slot) init_barrier(&s.full[slot], 2), init_barrier(&s.empty[slot], kGroups * 4);
    for (int entry = 0; entry < C::kQueue; ++entry) init_barrier(&s.queued[entry], 1);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  if (is_worker) {
    sort_slots(p, s);
    named_barrier(1, kWorkers);
    gather_tokens<C>(p, s);                      // before the weights are asked for: behind them its writes would wait
    fence_async_proxy();
    named_barrier(1, kWorkers);
    if (threadIdx.x == 0) grid_arrive(p.barrier);
  }
  __syncthreads();
  if (is_worker) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kWorkerRegisters));
    work<C>(p, s);
  } else {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCopierRegisters));
    if (threadIdx.x == kWorkers) copy_weights<C>(p, s);
    if (threadIdx.x == kWorkers + 32) copy_tokens<C>(p, s);
  }
}

template <class C>
int launch(const Params& p, int num_blocks, cudaStream_t stream) {
  static_assert(sizeof(Shared<C>) <= kSmemBytes && C::kStages >= 3);
  cudaError_t error = cudaFuncSetAttribute(moe_layer<C>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared<C>));
  if (error != cudaSuccess) return error;
  void* arguments[] = {const_cast<Params*>(&p)};
  return cudaLaunchCooperativeKernel(reinterpret_cast<void*>(moe_layer<C>), dim3(num_blocks), dim3(kThreads), arguments,
                                     sizeof(Shared<C>), stream);
}

template <class Format>
int launch_format(const Params& p, int variant, int num_blocks, cudaStream_t stream) {
  switch (variant) {
    case 8: return launch<Config<Format, 8, 1, 4>>(p, num_blocks, stream);
    case 16: return launch<Config<Format, 16, 1, 4>>(p, num_blocks, stream);
    case 32: return launch<Config<Format, 32, 2, 2>>(p, num_blocks, stream);
    case 64: return launch<Config<Format, 64, 4, 1>>(p, num_blocks, stream);
    case 128: return launch<Config<Format, 128, 4, 1>>(p, num_blocks, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace
}  // namespace fp4moe

// variant: most tokens of a tile, 8 to 128. Gives a cudaError_t.
extern "C" int fp4moe_moe_sm90(const void* w1, const void* w2, const void* scale1, const void* scale2, const void* x,
                               const void* expert_ids, const void* gate_weights, void* xs, void* hs, void* y, void* barrier,
                               int num_tokens, int top_k, int num_experts, int hidden, int intermediate,
                               int capacity, int is_mxfp4, int variant, int num_blocks, void* stream) {
  fp4moe::Params p{static_cast<const uint8_t*>(w1), static_cast<const uint8_t*>(w2), static_cast<const float*>(scale1),
                   static_cast<const float*>(scale2), static_cast<const __nv_bfloat16*>(x), static_cast<const int*>(expert_ids),
                   static_cast<const float*>(gate_weights), static_cast<uint8_t*>(xs), static_cast<uint8_t*>(hs),
                   static_cast<float*>(y), static_cast<unsigned*>(barrier),
                   num_tokens, top_k, num_experts, hidden, intermediate, capacity};
  auto s = static_cast<cudaStream_t>(stream);
  return is_mxfp4 ? fp4moe::launch_format<fp4moe::Mxfp4>(p, variant, num_blocks, s)
                  : fp4moe::launch_format<fp4moe::Nvfp4>(p, variant, num_blocks, s);
}
