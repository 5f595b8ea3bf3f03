// One Mixture-of-Experts layer, FP4 weights x BF16 activations, any number of tokens, in one persistent kernel (sm_90a).
//
//   phase 1   h[slot, f] = silu(gate_e x[token]) * (up_e x[token])
//   phase 2   y[token, d] = sum over slots of weight[slot] * down_e h[slot]
//
// In: weights packed by layout.py, x [M, D] BF16, expert ids and gate weights [M, top_k]. Out: y [M, D] float32.
// Weight rows are wgmma's M and come from registers, dequantized there; tokens are its N and come from shared memory.
//
// A block is four warpgroups that multiply (moe_products_sm90.cuh) and one of helpers. Two of these bring the weights and the tokens'
// values of stage after stage into a ring. A third tells the other blocks when h is written, so that nobody who multiplies waits for
// memory.
//
// Work is drawn in units (moe_plan_sm90.cuh), first of all experts' phase 1, then of their phase 2. There is no barrier between the
// two: an expert's phase 2 may begin when its own h is whole, and by then all blocks are busy with the experts after it.
//
// Slots are sorted by expert, each expert's first one on a multiple of 8. Narrow tiles (mma.sync) take rows of x and h as they are,
// k in order. Wide tiles (wgmma) read x and h from global scratch as the tensor core wants them: [stage of k][8 slots][64 k][1024
// bytes, 128-byte swizzle], inside 128 k permuted as the weights are.
#include <cuda_bf16.h>
#include <cstdint>

#include "moe_plan_sm90.cuh"
#include "moe_products_sm90.cuh"
#include "sm90_async.cuh"

namespace fp4moe {
namespace {

__device__ void clear_outputs(const Params& p) {
  for (int i = blockIdx.x * kWorkers + threadIdx.x; i < p.num_tokens * p.hidden / 4; i += gridDim.x * kWorkers)
    reinterpret_cast<float4*>(p.y)[i] = make_float4(0, 0, 0, 0);
}

// x of every sorted slot into xs, 8 k at a time: of a wide tile's lane, t and half. k = 32 t + 16 half + 4 step + 2 pair + odd.
template <class C>
__device__ void gather_tokens(const Params& p, const Shared<C>& s) {
  int chunks = p.hidden / 8, worker = blockIdx.x * kWorkers + threadIdx.x;
  for (int i = worker; i < s.num_sorted * chunks; i += gridDim.x * kWorkers) {
    int position = i / chunks, chunk = i % chunks, slot = s.order[position];
    if (slot == kNoSlot) continue;
    uint4 v = *(reinterpret_cast<const uint4*>(p.x + static_cast<size_t>(slot / p.top_k) * p.hidden) + chunk);
    if constexpr (C::kIsNarrow) {
      *reinterpret_cast<uint4*>(p.xs + row_byte<C>(p, position, chunk * 8)) = v;
    } else {
      int t = chunk / 4 % 4, half = chunk / 2 % 2, step = chunk % 2 * 2, row = position % 8;
      uint8_t* to = p.xs + atom_byte<C>(p, position, chunk / 16 * 2 + half);
      const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int pair = 0; pair < 4; ++pair)
        *reinterpret_cast<uint32_t*>(to + pair_byte(row, step + pair / 2, pair % 2, t)) = pairs[pair];
    }
  }
}

// One thread: draws tickets and asks for the weights of every stage as soon as its slot is free.
template <class C>
__device__ void copy_weights(const Params& p, Shared<C>& s) {
  uint64_t stream = evict_first(), keep = evict_last();
  Plan<C> plan(p, s);
  plan.make_levels();
  Segment segment;
  RingPlace<C::kStages> place;
  RingPlace<C::kQueue> entry;
  auto hand_over = [&] {
    wait(&s.reported[entry.slot], entry.parity ^ 1);
    s.queue[entry.slot] = segment;
    arrive(&s.queued[entry.slot]), entry.step();
  };
  constexpr int kStageBytes = C::kStageChunks * C::kBlockBytes;
  int ticket = blockIdx.x;
  while (plan.find(ticket, segment)) {
    ticket = gridDim.x + atomicAdd(&p.state->tickets, 1u);  // the next one, long before it is needed
    const Tile& tile = s.tiles[segment.tile];
    int row_blocks = (segment.is_first ? 2 * p.intermediate : p.hidden) / 64, first = segment.row_block * C::kRowGroups;
    int chunks = (segment.is_first ? p.hidden : p.intermediate) / 128;
    int rows = min(C::kRowGroups, row_blocks - first);
    size_t row_bytes = static_cast<size_t>(chunks) * C::kBlockBytes;
    const uint8_t* from = (segment.is_first ? p.w1 : p.w2) + (static_cast<size_t>(tile.expert) * row_blocks + first) * row_bytes;
    uint64_t policy = s.runs[s.run_of_tile[segment.tile]].num_tiles > 1 ? keep : stream;
    for (int stage = segment.begin; stage < segment.end; ++stage) {
      wait(&s.empty[place.slot], place.parity ^ 1);
      if (stage == segment.begin) hand_over();
      uint32_t bytes = min(C::kStageChunks, chunks - stage * C::kStageChunks) * C::kBlockBytes;
      arrive_expect(&s.full[place.slot], rows * bytes);
      for (int row = 0; row < rows; ++row)
        bulk_load(s.weights[place.slot] + row * kStageBytes, from + row * row_bytes + stage * kStageBytes, bytes, &s.full[place.slot], policy);
      place.step();
    }
  }
  wait(&s.empty[place.slot], place.parity ^ 1);
  segment.tile = -1;
  hand_over();
}

// Whether xs is used.
template <class C>
__device__ __forceinline__ bool gathers(const Params& p) {
  return !C::kIsNarrow || p.num_tokens > kMostDirectTokens;
}

__device__ __forceinline__ void wait_for_x(const Params& p) {
  while (load_acquire(&p.state->gathered) < gridDim.x) {}
  fence_async_proxy();
}

// Waits until every block has written the h of this tile's expert; `passed`: the run that was waited for last.
template <class C>
__device__ __forceinline__ void wait_for_h(const Params& p, const Shared<C>& s, int tile, int& passed) {
  int run = s.run_of_tile[tile];
  if (run == passed) return;
  int blocks = (2 * p.intermediate + 64 * C::kRowGroups - 1) / (64 * C::kRowGroups);
  while (load_acquire(&p.state->done[run]) < static_cast<unsigned>(s.runs[run].num_tiles * blocks)) {}
  fence_async_proxy();
  passed = run;
}

// Wide tiles, one thread: the tokens' values of every stage as soon as its slot is free and they exist.
template <class C>
__device__ void copy_tokens(const Params& p, Shared<C>& s) {
  uint64_t keep = evict_last();
  RingPlace<C::kStages> place;
  RingPlace<C::kQueue> entry;
  int passed = -1;
  wait_for_x(p);
  for (;; entry.step()) {
    wait(&s.queued[entry.slot], entry.parity);
    Segment segment = s.queue[entry.slot];
    if (segment.tile < 0) return;
    if (!segment.is_first) wait_for_h(p, s, segment.tile, passed);
    const Tile& tile = s.tiles[segment.tile];
    uint32_t bytes = round_tokens<C>(tile.count) * C::kRowBytes;
    size_t stride = static_cast<size_t>(p.capacity) * (C::kAtoms * 1024);
    const uint8_t* from = (segment.is_first ? p.xs : p.hs) + tile.first / 8 * (C::kAtoms * 1024);
    for (int stage = segment.begin; stage < segment.end; ++stage) {
      wait(&s.empty[place.slot], place.parity ^ 1);
      arrive_expect(&s.full[place.slot], bytes);
      bulk_load(s.tokens[place.slot], from + stage * stride, bytes, &s.full[place.slot], keep);
      place.step();
    }
  }
}

// Narrow tiles, one warp: the same, but for few tokens each lane copies a token's row of x itself, since gathering takes longer. Rows
// that no token has stay as they are: columns do not mix.
template <class C>
__device__ void copy_token_rows(const Params& p, Shared<C>& s) {
  constexpr int kStageBytes = C::kStageChunks * 256;
  uint64_t keep = evict_last();
  RingPlace<C::kStages> place;
  RingPlace<C::kQueue> entry;
  int passed = -1, lane = threadIdx.x & 31;
  if (gathers<C>(p)) wait_for_x(p);
  for (;; entry.step()) {
    wait(&s.queued[entry.slot], entry.parity);
    Segment segment = s.queue[entry.slot];
    if (segment.tile < 0) return;
    if (!segment.is_first) wait_for_h(p, s, segment.tile, passed);
    const Tile& tile = s.tiles[segment.tile];
    bool is_whole = !segment.is_first || gathers<C>(p);
    const uint8_t* from = (segment.is_first ? p.xs : p.hs) + static_cast<size_t>(tile.first) * C::kRowBytes;
    size_t stride = static_cast<size_t>(p.capacity) * 8 * C::kRowBytes;
    if (!is_whole) {
      int slot = s.order[tile.first + min(lane, tile.count - 1)];
      from = reinterpret_cast<const uint8_t*>(p.x + static_cast<size_t>(slot / p.top_k) * p.hidden), stride = kStageBytes;
    }
    for (int stage = segment.begin; stage < segment.end; ++stage) {
      uint32_t row_bytes = is_whole ? C::kRowBytes : min(kStageBytes, 2 * p.hidden - stage * kStageBytes);
      wait(&s.empty[place.slot], place.parity ^ 1);
      if (lane == 0) arrive_expect(&s.full[place.slot], row_bytes * tile.count);
      __syncwarp();
      if (lane < (is_whole ? 1 : tile.count))
        bulk_load(s.tokens[place.slot] + lane * C::kRowBytes, from + stage * stride, is_whole ? row_bytes * tile.count : row_bytes,
                  &s.full[place.slot], keep);
      place.step();
    }
  }
}

template <class C>
__device__ __forceinline__ void work(const Params& p, Shared<C>& s) {
  RingPlace<C::kStages> place;
  RingPlace<C::kQueue> entry;
  bool is_leader = (threadIdx.x & 31) == 0;
  for (int turn = 0;; entry.step(), ++turn) {
    wait(&s.queued[entry.slot], entry.parity);
    const Segment& segment = s.queue[entry.slot];
    if (segment.tile < 0) break;
    multiply<C>(p, s, segment, place, turn, round_tokens<C>(s.tiles[segment.tile].count));
    __syncwarp();
    if (is_leader) arrive(&s.finished[entry.slot]);
  }
}

// One thread: tells all blocks when the workers have written the h of a unit; they do not wait for that themselves.
template <class C>
__device__ void report_units(const Params& p, Shared<C>& s) {
  RingPlace<C::kQueue> entry;
  for (;; entry.step()) {
    wait(&s.queued[entry.slot], entry.parity);
    Segment segment = s.queue[entry.slot];
    if (segment.tile < 0) break;
    wait(&s.finished[entry.slot], entry.parity);
    if (segment.is_first) add_release(&p.state->done[s.run_of_tile[segment.tile]], 1);
    arrive(&s.reported[entry.slot]);
  }
  if (add_release(&p.state->left, 1) + 1 == gridDim.x) *p.state = {};  // every block has drawn its last ticket
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) moe_layer(const Params p) {
  extern __shared__ __align__(1024) uint8_t raw[];
  Shared<C>& s = *reinterpret_cast<Shared<C>*>(raw);
  bool is_worker = threadIdx.x < kWorkers;
  if (threadIdx.x == kWorkers) {
    for (int slot = 0; slot < C::kStages; ++slot) init_barrier(&s.full[slot], 2), init_barrier(&s.empty[slot], kGroups * 4);
    for (int entry = 0; entry < C::kQueue; ++entry)
      init_barrier(&s.queued[entry], 1), init_barrier(&s.finished[entry], kGroups * 4), init_barrier(&s.reported[entry], 1);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  wait_for_last_kernel();
  start_next_kernel();
  if (is_worker) {
    clear_outputs(p);
    sort_slots(p, s);
    if (gathers<C>(p)) {
      named_barrier(1, kWorkers);
      gather_tokens<C>(p, s);                    // before the weights are asked for: behind them its writes would wait
      fence_async_proxy();
      named_barrier(1, kWorkers);
      if (threadIdx.x == 0) add_release(&p.state->gathered, 1);
    }
  }
  __syncthreads();
  if (is_worker) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(C::kWorkerRegisters));
    work<C>(p, s);
  } else {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(C::kCopierRegisters));
    if (threadIdx.x == kWorkers) copy_weights<C>(p, s);
    if (threadIdx.x == kWorkers + 64) report_units<C>(p, s);
    if constexpr (C::kIsNarrow) {
      if (threadIdx.x / 32 == kWorkers / 32 + 1) copy_token_rows<C>(p, s);
    } else if (threadIdx.x == kWorkers + 32) {
      copy_tokens<C>(p, s);
    }
  }
}

template <class C>
int launch(const Params& p, int num_blocks, cudaStream_t stream) {
  static_assert(sizeof(Shared<C>) <= kSmemBytes && C::kStages >= 3);
  cudaError_t error = cudaFuncSetAttribute(moe_layer<C>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared<C>));
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeCooperative, attributes[0].val.cooperative = 1;  // all blocks at once: they wait for each other
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization, attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(num_blocks), config.blockDim = dim3(kThreads), config.dynamicSmemBytes = sizeof(Shared<C>);
  config.stream = stream, config.attrs = attributes, config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, moe_layer<C>, p);
}

template <class Format>
int launch_format(const Params& p, int most_tokens, bool splits_k, int num_blocks, cudaStream_t stream) {
  if (splits_k) {                                // finer units of work: where memory is the limit
    switch (most_tokens) {
      case 8: return launch<Config<Format, 8, 1, 4>>(p, num_blocks, stream);
      case 16: return launch<Config<Format, 16, 2, 2, 2>>(p, num_blocks, stream);
      case 24: return launch<Config<Format, 24, 2, 2, 2>>(p, num_blocks, stream);
    }
  }
  switch (most_tokens) {
    case 8: return launch<Config<Format, 8, 4, 1, 2>>(p, num_blocks, stream);
    case 16: return launch<Config<Format, 16, 4, 1, 2>>(p, num_blocks, stream);
    case 24: return launch<Config<Format, 24, 4, 1, 2>>(p, num_blocks, stream);
    case 64: return launch<Config<Format, 64, 4>>(p, num_blocks, stream);
    case 128: return launch<Config<Format, 128, 4>>(p, num_blocks, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace
}  // namespace fp4moe

// most_tokens: of a tile, 8 to 128. splits_k: warpgroups of a narrow tile lie along k too and add up. Gives a cudaError_t.
extern "C" int fp4moe_moe_sm90(const void* w1, const void* w2, const void* scale1, const void* scale2, const void* x,
                               const void* expert_ids, const void* gate_weights, void* xs, void* hs, void* y, void* state,
                               int num_tokens, int top_k, int num_experts, int hidden, int intermediate,
                               int capacity, int is_mxfp4, int most_tokens, int splits_k, int num_blocks,
                               void* stream) {
  fp4moe::Params p{static_cast<const uint8_t*>(w1), static_cast<const uint8_t*>(w2), static_cast<const float*>(scale1),
                   static_cast<const float*>(scale2), static_cast<const __nv_bfloat16*>(x), static_cast<const int*>(expert_ids),
                   static_cast<const float*>(gate_weights), static_cast<uint8_t*>(xs), static_cast<uint8_t*>(hs),
                   static_cast<float*>(y), static_cast<fp4moe::GridState*>(state),
                   num_tokens, top_k, num_experts, hidden, intermediate, capacity};
  auto s = static_cast<cudaStream_t>(stream);
  return is_mxfp4 ? fp4moe::launch_format<fp4moe::Mxfp4>(p, most_tokens, splits_k, num_blocks, s)
                  : fp4moe::launch_format<fp4moe::Nvfp4>(p, most_tokens, splits_k, num_blocks, s);
}
