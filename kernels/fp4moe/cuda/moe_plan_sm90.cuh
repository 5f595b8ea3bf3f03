// What a launch of moe_sm90.cu works on: sizes of a configuration, its shared memory, the slots sorted by expert and cut into tiles,
// and the work of all blocks in order, a ticket each.
#pragma once
#include <cuda_bf16.h>
#include <cstdint>

#include "sm90_async.cuh"

namespace fp4moe {
namespace {

constexpr int kGroups = 4;                       // warpgroups that multiply
constexpr int kWorkers = kGroups * 128;
constexpr int kThreads = kWorkers + 128;         // the last four warps: two copy, one reports; registers go by warpgroup
constexpr int kMaxExperts = 64;
constexpr int kMostDirectTokens = 16;            // of a call whose narrow tiles copy rows of x as they are
constexpr int kRowsTogether = 16;                // row blocks that go over all tiles of an expert before the next ones
constexpr uint16_t kNoSlot = 0xffff;
constexpr int kSmemBytes = 227 * 1024;

// Of one launch, all blocks; zero before and after it.
struct GridState {
  unsigned gathered, left;                       // blocks
  unsigned tickets;                              // given out
  unsigned done[kMaxExperts];                    // units of the first product, by run
};

struct Params {
  const uint8_t* w1;                             // [E][row block of 64][chunk of 128 k][4][chunk bytes]
  const uint8_t* w2;
  const float* scale1;                           // [E][gate, up] times 2^8
  const float* scale2;                           // [E] times 2^8
  const __nv_bfloat16* x;                        // [M, D]
  const int* expert_ids;                         // [M, top_k]
  const float* gate_weights;                     // [M, top_k]
  uint8_t* xs;                                   // scratch: x, where it is gathered, and h; see moe_sm90.cu
  uint8_t* hs;
  float* y;                                      // [M, D]
  GridState* state;
  int num_tokens, top_k, num_experts, hidden, intermediate;
  int capacity;                                  // groups of 8 slots in xs and hs
};

struct Tile { int expert, first, count; };       // up to kMaxTokens slots of one expert
struct Run { int first_tile, num_tiles; };       // the tiles of one expert

// Stages [begin, end) of one tile of slots x one block of rows.
struct Segment {
  int is_first, tile, row_block, begin, end;
};

// Units of the second product that are cut alike: into pieces of `stages`.
struct Level { int first_ticket, first_unit, num_units, stages; };
constexpr int kLevels = 6;

// A stage is kRowGroups x 64 rows and kKGroups x kDepth x 128 k: warpgroup (r, c) takes 64 rows and kDepth chunks of k of it.
template <class Format, int kMaxTokens_, int kRowGroups_, int kKGroups_ = 1, int kDepth_ = 1>
struct Config {
  using Weights = Format;
  static constexpr int kMaxTokens = kMaxTokens_, kRowGroups = kRowGroups_, kKGroups = kKGroups_, kDepth = kDepth_;
  static constexpr bool kIsNarrow = kMaxTokens <= 24;           // mma.sync, tokens' values through registers
  static_assert(kRowGroups * kKGroups == kGroups && (kIsNarrow || kKGroups * kDepth == 1));
  static constexpr int kStageChunks = kKGroups * kDepth;        // of 128 k
  // Of a thread, 512 that multiply and 128 others; a wide product needs what the others can spare.
  static constexpr int kWorkerRegisters = kIsNarrow ? 104 : 112, kCopierRegisters = kIsNarrow ? 64 : 32;
  // Widths of products: the least one, then in steps of kTokenStep. Below the least one expanding takes as long as multiplying.
  static constexpr int kTokenStep = kIsNarrow ? 8 : kMaxTokens == 128 ? 32 : 16, kMinTokens = kMaxTokens == 128 ? 32 : 8;
  // Of a piece of the second product: its end costs.
  static constexpr int kLeastStages = kIsNarrow ? 16 / (kGroups * kDepth) : kMaxTokens == 128 ? 14 : 7;
  static constexpr int kBlockBytes = 4 * Format::kChunkBytes;   // 64 rows x 128 k
  static constexpr int kWeightBytes = kGroups * kDepth * kBlockBytes;
  static constexpr int kAtoms = 2 * kStageChunks;               // of 64 k in a stage
  static constexpr int kRowBytes = kAtoms * 128 + (kIsNarrow ? 16 : 0);  // of a token in a stage; 16 more: other banks
  static constexpr int kTokenBytes = kMaxTokens * kRowBytes;
  static constexpr int kMaxSlots = kIsNarrow ? 2048 : 8192;
  static constexpr int kMaxSorted = kMaxSlots + 8 * kMaxExperts;
  static constexpr int kMaxTiles = kMaxSlots / kMaxTokens + kMaxExperts;
  static constexpr int kExchangeFloats = kKGroups == 1 ? 0 : 2 * (kKGroups - 1) * kRowGroups * 64 * kMaxTokens;
  static constexpr int kFixedBytes = kExchangeFloats * 4 + kMaxSorted * 2 + kMaxTiles * 14 + kGroups * 4 * kMaxExperts * 4 + 3072;
  static constexpr int kFitting = (kSmemBytes - kFixedBytes) / (kWeightBytes + kTokenBytes);
  static constexpr int kStages = kMaxTokens == 128 && kFitting > 3 ? 3 : kFitting;  // a fourth made 4096 tokens 1 to 2 % slower
  static constexpr int kQueue = kStages + 2;     // the workers have read an entry before its stages are free again
};

template <class C>
struct Shared {
  alignas(1024) uint8_t tokens[C::kStages][C::kTokenBytes];
  alignas(128) uint8_t weights[C::kStages][C::kWeightBytes];
  alignas(16) float exchange[C::kExchangeFloats + 4];
  alignas(8) uint64_t full[C::kStages], empty[C::kStages], queued[C::kQueue], finished[C::kQueue], reported[C::kQueue];
  uint16_t order[C::kMaxSorted];                    // sorted position -> slot
  Tile tiles[C::kMaxTiles];
  short run_of_tile[C::kMaxTiles];
  Run runs[kMaxExperts];
  int counts[kGroups * 4][kMaxExperts];          // of each warp, then where its slots of an expert begin
  Segment queue[C::kQueue];                      // from the copying warp to the workers; tile < 0 ends
  Level levels[kLevels];
  int num_tiles, num_sorted, num_tickets;
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

// The work of a launch in order, a ticket each: whole units of the first product, then pieces of the second, the smaller the less is
// left. Blocks draw tickets, since memory does not serve them alike.
template <class C>
struct Plan {
  Shared<C>& s;
  int blocks1, stages1, blocks2, stages2, units1;

  __device__ Plan(const Params& p, Shared<C>& shared) : s(shared) {
    constexpr int rows = 64 * C::kRowGroups, k = 128 * C::kStageChunks;
    blocks1 = (2 * p.intermediate + rows - 1) / rows, stages1 = (p.hidden + k - 1) / k;
    blocks2 = (p.hidden + rows - 1) / rows, stages2 = (p.intermediate + k - 1) / k;
    units1 = s.num_tiles * blocks1;
  }

  __device__ void make_levels() {
    int units = s.num_tiles * blocks2, unit = 0, ticket = units1;
    for (int level = 0; level < kLevels; ++level) {
      int stages = min(stages2, max(C::kLeastStages, (stages2 + (1 << level) - 1) >> level));
      int left = (units - unit) * stages2, num_units = (left - static_cast<int>(gridDim.x) * stages) / stages2;
      num_units = level == kLevels - 1 ? units - unit : max(0, num_units);
      s.levels[level] = {ticket, unit, num_units, stages};
      ticket += num_units * ((stages2 + stages - 1) / stages), unit += num_units;
    }
    s.num_tickets = ticket;
  }

  __device__ bool find(int ticket, Segment& segment) const {
    if (ticket < units1) {
      place(segment, ticket, blocks1), segment.is_first = true;
      segment.begin = 0, segment.end = stages1;
      return true;
    }
    if (ticket >= s.num_tickets) return false;
    int level = kLevels - 1;
    while (ticket < s.levels[level].first_ticket) --level;
    Level of = s.levels[level];
    int at = ticket - of.first_ticket;
    place(segment, of.first_unit + at % of.num_units, blocks2), segment.is_first = false;
    segment.begin = at / of.num_units * of.stages, segment.end = min(stages2, segment.begin + of.stages);
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

}  // namespace
}  // namespace fp4moe
