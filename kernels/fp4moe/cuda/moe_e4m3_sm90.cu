// One Mixture-of-Experts layer, FP4 or FP8 weights x FP8 activations on the FP8 tensor cores, any number of tokens (sm_90a).
//
//   sort_slots, round_tokens        slots by expert; x to E4M3, a scale a token
//   product<first>                  h[slot, f] = silu(gate_e x[token]) * (up_e x[token]), BF16
//   round_activations               h to E4M3, a scale a slot
//   product<second>                 y[token, d] += weight[slot] * down_e h[slot], then to_bf16
//
// In: weights packed by e4m3_layout.py, x [M, D], expert ids and gate weights [M, top_k]. Out: y [M, D] in x's dtype.
// Weight rows are wgmma's M: FP4 comes from registers, expanded there to E4M3, FP8 from shared memory. Tokens are its N.
//
// A product is persistent. Two blocks of a cluster take neighboring 128 rows and the same tokens, each copies half of the tokens'
// values into both. In a block two warpgroups multiply 64 rows each, one thread copies: a stage is 128 k. Sums of the second product
// are cut into pieces of at most kMaxStagesASum stages, so that no sum of a tensor core is longer than 16384 terms. A kernel starts while the one before ends.
#include <cuda_bf16.h>
#include <cstdint>
#include <type_traits>

#include "e4m3_fragments.cuh"
#include "e4m3_prepare.cuh"
#include "sm90_async.cuh"
#include "sm90_cluster.cuh"
#include "wgmma_e4m3_sm90.cuh"
#include "wgmma_sm90.cuh"

namespace fp4moe {
namespace {

constexpr int kGroups = 2;                       // warpgroups that multiply
constexpr int kWorkers = kGroups * 128;
constexpr int kThreads = kWorkers + 128;         // the last warpgroup copies, with one thread
constexpr int kWorkerRegisters = 232, kCopierRegisters = 40;
constexpr int kRows = 64 * kGroups;              // of a block
constexpr int kRowsTogether = 16;                // clusters' rows that go over all tiles of an expert before the next ones
constexpr int kMaxStagesASum = 128;
constexpr int kSmemBytes = 227 * 1024;
constexpr uint32_t kLayout = wgmma_layout(1024);  // of both operands in shared memory

struct Params {
  const uint8_t* weights;                        // [E][rows / 128][chunk of 128 k][8][chunk bytes]
  const float* row_scale;                        // [E][rows], in the order of the tensor core
  const uint8_t* tokens;                         // E4M3, see e4m3_prepare.cuh
  const float* token_scale;                      // [position]
  const int* token_of_position;                  // second product
  const Slots* slots;
  __nv_bfloat16* h;                              // [position, F], first product
  float* y_sum;                                  // [M, D], the first product sets it to zero
  int num_rows, k, num_tokens, hidden, capacity;  // capacity: groups of 8 positions
};

// Stages [begin, end) of one tile of slots x one block of rows.
struct Segment { int expert, first, count, row_block, begin, end; };

template <class Format, bool kIsFirst_, int kMaxTokens_, int kCluster_>
struct Config {
  using Weights = Format;
  static constexpr bool kIsFirst = kIsFirst_;
  static constexpr int kMaxTokens = kMaxTokens_, kCluster = kCluster_;
  static constexpr int kWeightBytes = 8 * Format::kChunkBytes;   // 128 rows x 128 k
  static constexpr int kTokenBytes = kMaxTokens * 128;
  static constexpr int kPassTokens = kMaxTokens < 128 ? kMaxTokens : 128;  // whose h is handed over at a time
  static constexpr int kHandOverBytes = kIsFirst ? kGroups * kPassTokens * 64 : 16;
  static constexpr int kMostStages = (kSmemBytes - 2048 - kHandOverBytes) / (kTokenBytes + kWeightBytes);
  static constexpr int kStages = kMostStages > 12 ? 12 : kMostStages;
  static constexpr int kQueue = kStages + 2;     // an entry is read before its stages are free again
};

template <class C>
struct Shared {
  alignas(1024) uint8_t tokens[C::kStages][C::kTokenBytes];
  alignas(1024) uint8_t weights[C::kStages][C::kWeightBytes];
  alignas(128) uint8_t hand_over[C::kHandOverBytes];
  alignas(8) uint64_t full[C::kStages], empty[C::kStages], queued[C::kQueue];
  Segment queue[C::kQueue];                      // from the copying thread to the workers; expert < 0 ends
};

// The width of the product that serves a tile.
template <class C>
__device__ __forceinline__ int width_of(int count) {
  return C::kMaxTokens <= 64 && count <= 8 ? 8 : (count + 15) & ~15;
}

// The segments of this cluster in order. A piece is a part of the sums of one tile x rows; whole pieces, one in as many as there are
// clusters; in the second product what is left over is cut into equal shares of stages.
template <class C>
struct Walk {
  const Slots& slots;
  int blocks, stages, parts, part_stages, whole, at, tail, tail_end, num_clusters;

  __device__ explicit Walk(const Params& p) : slots(*p.slots) {
    constexpr int rows = kRows * C::kCluster;
    int cluster = blockIdx.x / C::kCluster;
    num_clusters = gridDim.x / C::kCluster, blocks = (p.num_rows + rows - 1) / rows, stages = p.k / 128;
    parts = C::kIsFirst ? 1 : (stages + kMaxStagesASum - 1) / kMaxStagesASum, part_stages = (stages + parts - 1) / parts;
    int pieces = slots.num_tiles * blocks * parts;
    whole = C::kIsFirst ? pieces : pieces / num_clusters * num_clusters, at = cluster;
    long long left = static_cast<long long>(pieces - whole) * part_stages;
    tail = static_cast<int>(left * cluster / num_clusters), tail_end = static_cast<int>(left * (cluster + 1) / num_clusters);
  }

  __device__ bool next(Segment& segment) {
    while (true) {
      int begin = 0, end = part_stages, piece = at;
      if (at < whole) {
        at += num_clusters;
      } else if (tail < tail_end) {
        piece = whole + tail / part_stages, begin = tail % part_stages, end = min(part_stages, begin + tail_end - tail);
        tail += end - begin;
      } else {
        return false;
      }
      int part = place(segment, piece);
      segment.begin = part * part_stages + begin, segment.end = min(stages, part * part_stages + end);
      if (segment.begin < segment.end) return true;  // the last part can be shorter
    }
  }

  // Within an expert: a part of k; in it some rows over all tiles, then the next rows, so that both stay in the L2. Gives the part.
  __device__ int place(Segment& segment, int piece) const {
    const Tile& tile = slots.tiles[piece / (blocks * parts)];
    int run = tile.run_tiles * blocks, at = piece - tile.run_first * blocks * parts, part = at / run, within = at % run;
    int together = kRowsTogether * tile.run_tiles, group = within / together, rest = within % together;
    int rows = min(kRowsTogether, blocks - group * kRowsTogether);
    const Tile& own = slots.tiles[tile.run_first + rest / rows];
    segment.expert = own.expert, segment.first = own.first, segment.count = own.count;
    segment.row_block = group * kRowsTogether + rest % rows;
    return part;
  }
};

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

// One thread: every stage as soon as its slot is free in both blocks.
template <class C>
__device__ void copy(const Params& p, Shared<C>& s) {
  uint64_t keep = evict_last();
  uint32_t rank = C::kCluster == 1 ? 0 : cluster_rank();
  int row_blocks = p.num_rows / kRows, chunks = p.k / 128;
  Walk<C> walk(p);
  Segment segment;
  RingPlace<C::kStages> place;
  RingPlace<C::kQueue> entry;
  while (walk.next(segment)) {
    segment.row_block = segment.row_block * C::kCluster + rank;
    bool has_rows = segment.row_block < row_blocks;
    uint32_t token_bytes = width_of<C>(segment.count) * 128, part_bytes = token_bytes / C::kCluster;
    size_t first_chunk = (static_cast<size_t>(segment.expert) * row_blocks + segment.row_block) * chunks + segment.begin;
    const uint8_t* weights = p.weights + first_chunk * C::kWeightBytes;
    const uint8_t* tokens = p.tokens + (static_cast<size_t>(segment.begin) * p.capacity + segment.first / 8) * 1024 + rank * part_bytes;
    for (int stage = segment.begin; stage < segment.end; ++stage, place.step()) {
      uint64_t* full = &s.full[place.slot];
      wait(&s.empty[place.slot], place.parity ^ 1);
      if (stage == segment.begin) s.queue[entry.slot] = segment, arrive(&s.queued[entry.slot]), entry.step();
      arrive_expect(full, token_bytes + (has_rows ? C::kWeightBytes : 0));
      if (has_rows) bulk_load(s.weights[place.slot], weights, C::kWeightBytes, full, keep);
      uint8_t* to = s.tokens[place.slot] + rank * part_bytes;
      if constexpr (C::kCluster == 1) bulk_load(to, tokens, part_bytes, full, keep);
      else bulk_load_to(to, tokens, part_bytes, full, (1 << C::kCluster) - 1, keep);
      weights += C::kWeightBytes, tokens += static_cast<size_t>(p.capacity) * 1024;
    }
  }
  wait(&s.empty[place.slot], place.parity ^ 1);
  segment.expert = -1, s.queue[entry.slot] = segment, arrive(&s.queued[entry.slot]);
}

// The three warps that copy nothing, in the first product: y_sum to zero.
__device__ __forceinline__ void clear_outputs(const Params& p) {
  int thread = blockIdx.x * 96 + threadIdx.x - kWorkers - 32;
  for (int i = thread; i < p.num_tokens * (p.hidden / 4); i += gridDim.x * 96)
    reinterpret_cast<float4*>(p.y_sum)[i] = make_float4(0, 0, 0, 0);
}

// This warp has read a stage: said to the copying threads of both blocks.
template <class C>
__device__ __forceinline__ void release(uint64_t* empty, int lane) {
  if constexpr (C::kCluster == 1) {
    if (lane == 0) arrive(empty);
  } else {
    if (lane < C::kCluster) arrive_at(empty, lane);
  }
}

__device__ __forceinline__ float gated(float gate, float up) { return __fdividef(gate * up, 1.0f + __expf(-gate)); }

// kCount 8 x 8 blocks of BF16 of a warp to shared memory, transposed; lane i gives the place of column i % 8 of block i / 8.
template <int kCount>
__device__ __forceinline__ void store_transposed(uint32_t to, const uint32_t (&v)[kCount]) {
  if constexpr (kCount == 4)
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
  else if constexpr (kCount == 2)
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(to), "r"(v[0]), "r"(v[1]) : "memory");
  else
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(to), "r"(v[0]) : "memory");
}

// A warp's row g is a gate, row g + 8 its up: h of 8 columns a warp and 32 a warpgroup, handed over so that a token's 64 bytes go out
// together.
template <class C, int kTokens>
__device__ __forceinline__ void store_h(const Params& p, Shared<C>& s, const Segment& segment, int group, const float (&d)[kTokens / 2]) {
  constexpr int kBlocks = kTokens / 8, kTogether = kBlocks % 4 == 0 ? 4 : kBlocks % 2 == 0 ? 2 : 1, kPassBlocks = C::kPassTokens / 8;
  int thread = threadIdx.x & 127, warp = thread / 32, lane = thread & 31, g = lane / 4, t = lane & 3, intermediate = p.num_rows / 2;
  const float* row_scale = p.row_scale + static_cast<size_t>(segment.expert) * p.num_rows + segment.row_block * kRows + group * 64 + warp * 16 + g;
  float gate = row_scale[0], up = row_scale[8];
  const float2* token_scale = reinterpret_cast<const float2*>(p.token_scale + segment.first) + t;
  uint8_t* own = s.hand_over + group * (C::kPassTokens * 64);
  __nv_bfloat16* h = p.h + static_cast<size_t>(segment.first) * intermediate + segment.row_block * (kRows / 2) + group * 32;
#pragma unroll
  for (int pass = 0; pass < (kBlocks + kPassBlocks - 1) / kPassBlocks; ++pass) {
    named_barrier(1 + group, 128);               // what was handed over before has gone out
#pragma unroll
    for (int j = 0; j < kPassBlocks; j += kTogether) {
      if (pass * kPassBlocks + j >= kBlocks) break;
      uint32_t pairs[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        int block = pass * kPassBlocks + j + i;
        float2 scale = token_scale[block * 4];
        float low = gated(d[4 * block] * (gate * scale.x), d[4 * block + 2] * (up * scale.x));
        float high = gated(d[4 * block + 1] * (gate * scale.y), d[4 * block + 3] * (up * scale.y));
        __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
        pairs[i] = reinterpret_cast<uint32_t&>(pair);
      }
      int token = j * 8 + lane % (8 * kTogether);
      store_transposed<kTogether>(smem_address(own + token * 64 + ((warp ^ (token >> 1)) & 3) * 16), pairs);
    }
    named_barrier(1 + group, 128);
    int left = min(C::kPassTokens, segment.count - pass * C::kPassTokens);
    for (int i = thread; i < left * 4; i += 128) {
      int token = i / 4, part = i % 4;
      uint4 v = *reinterpret_cast<const uint4*>(own + token * 64 + ((part ^ (token >> 1)) & 3) * 16);
      *reinterpret_cast<uint4*>(h + static_cast<size_t>(pass * C::kPassTokens + token) * intermediate + part * 8) = v;
    }
  }
}

// Rows g and g + 8 are neighbors of y.
template <class C, int kTokens>
__device__ __forceinline__ void add_outputs(const Params& p, const Segment& segment, int group, const float (&d)[kTokens / 2]) {
  int warp = threadIdx.x / 32 & 3, lane = threadIdx.x & 31, g = lane / 4, t = lane & 3, row = segment.row_block * kRows + group * 64 + warp * 16;
  const float* row_scale = p.row_scale + static_cast<size_t>(segment.expert) * p.num_rows + row + g;
  float low = row_scale[0], high = row_scale[8];
  float* y = p.y_sum + row + 2 * g;
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j) {
    int token = 8 * j + 2 * t, position = segment.first + token;
    float2 scale = *reinterpret_cast<const float2*>(p.token_scale + position);
    int2 to = *reinterpret_cast<const int2*>(p.token_of_position + position);
    if (token < segment.count)
      asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(y + static_cast<size_t>(to.x) * p.hidden),
                   "f"(d[4 * j] * (low * scale.x)), "f"(d[4 * j + 2] * (high * scale.x)) : "memory");
    if (token + 1 < segment.count)
      asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(y + static_cast<size_t>(to.y) * p.hidden),
                   "f"(d[4 * j + 1] * (low * scale.y)), "f"(d[4 * j + 3] * (high * scale.y)) : "memory");
  }
}

template <int kCount>
__device__ __forceinline__ void fence_registers(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// The stages of a segment, FP4 weights: a step is expanded while the one before is multiplied.
template <class C, int kTokens>
__device__ __forceinline__ void add_expanded(Shared<C>& s, int num_stages, RingPlace<C::kStages>& place, int group, float (&d)[kTokens / 2]) {
  using Format = typename C::Weights;
  int warp = threadIdx.x / 32 & 3, lane = threadIdx.x & 31;
  const uint8_t* chunk = s.weights[0] + (group * 4 + warp) * Format::kChunkBytes;
  const uint8_t* lane_codes = chunk + lane * 16;
  const uint8_t* lane_scales = chunk + 1024 + lane * sizeof(typename Format::Scales);
  uint32_t tokens = wgmma_start(smem_address(s.tokens[0]));
  uint32_t a[2][4];
  for (int stage = 0; stage < num_stages; ++stage) {
    wait(&s.full[place.slot], place.parity);
    auto scales = *reinterpret_cast<const typename Format::Scales*>(lane_scales + place.slot * C::kWeightBytes);
    uint32_t stage_tokens = tokens + place.slot * (C::kTokenBytes >> 4);
#pragma unroll
    for (int quarter = 0; quarter < 2; ++quarter) {
      uint4 words = *reinterpret_cast<const uint4*>(lane_codes + place.slot * C::kWeightBytes + quarter * 512);
      Table low = Format::table(scales, quarter, 0), high = Format::table(scales, quarter, 1);
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        uint32_t(&to)[4] = a[step];
        expand_codes(step ? words.z : words.x, low, to[0], to[2]);
        expand_codes(step ? words.w : words.y, high, to[1], to[3]);
        wgmma_fence();
        WgmmaE4m3<kTokens>::run(d, to, stage_tokens + ((quarter * 64 + step * 32) >> 4), kLayout);
        wgmma_commit();
        wgmma_wait<1>();
        if (quarter == 0 && step == 0 && stage > 0) release<C>(&s.empty[place.before()], lane);  // its products are done
      }
    }
    place.step();
  }
}

// The same, FP8 weights as they are stored.
template <class C, int kTokens>
__device__ __forceinline__ void add_stored(Shared<C>& s, int num_stages, RingPlace<C::kStages>& place, int group, float (&d)[kTokens / 2]) {
  uint32_t weights = wgmma_start(smem_address(s.weights[0]) + group * (C::kWeightBytes / kGroups));
  uint32_t tokens = wgmma_start(smem_address(s.tokens[0]));
#pragma unroll 1
  for (int stage = 0; stage < num_stages; ++stage) {
    wait(&s.full[place.slot], place.parity);
    uint32_t stage_weights = weights + place.slot * (C::kWeightBytes >> 4), stage_tokens = tokens + place.slot * (C::kTokenBytes >> 4);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step) WgmmaE4m3<kTokens>::run(d, stage_weights + step * 2, stage_tokens + step * 2, kLayout);
    wgmma_commit();
    wgmma_wait<1>();
    if (stage > 0) release<C>(&s.empty[place.before()], threadIdx.x & 31);
    place.step();
  }
}

// One segment by all workers.
template <class C, int kTokens>
__device__ __forceinline__ void multiply(const Params& p, Shared<C>& s, const Segment& segment, RingPlace<C::kStages>& place) {
  int group = __shfl_sync(~0u, threadIdx.x / 128, 0);
  float d[kTokens / 2];
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) d[i] = 0.0f;
  if constexpr (C::Weights::kIsExpanded) add_expanded<C, kTokens>(s, segment.end - segment.begin, place, group, d);
  else add_stored<C, kTokens>(s, segment.end - segment.begin, place, group, d);
  wgmma_wait<0>();
  fence_registers(d);
  release<C>(&s.empty[place.before()], threadIdx.x & 31);
  if constexpr (C::kIsFirst) store_h<C, kTokens>(p, s, segment, group, d);
  else add_outputs<C, kTokens>(p, segment, group, d);
}

template <class C, int kTokens>
__device__ __forceinline__ void multiply_width(const Params& p, Shared<C>& s, const Segment& segment, RingPlace<C::kStages>& place, int width) {
  constexpr int kNext = kTokens == 8 ? 16 : kTokens + 16;
  if constexpr (kNext > C::kMaxTokens) {
    multiply<C, kTokens>(p, s, segment, place);
  } else {
    if (width <= kTokens) multiply<C, kTokens>(p, s, segment, place);
    else multiply_width<C, kNext>(p, s, segment, place, width);
  }
}

template <class C>
__device__ __forceinline__ void work(const Params& p, Shared<C>& s) {
  RingPlace<C::kStages> place;
  RingPlace<C::kQueue> entry;
  for (;; entry.step()) {
    wait(&s.queued[entry.slot], entry.parity);
    const Segment segment = s.queue[entry.slot];
    if (segment.expert < 0) return;
    if (segment.row_block * kRows < p.num_rows) {
      multiply_width<C, C::kMaxTokens <= 64 ? 8 : 16>(p, s, segment, place, width_of<C>(segment.count));
    } else {
      for (int stage = segment.begin; stage < segment.end; ++stage, place.step()) {
        wait(&s.full[place.slot], place.parity);
        release<C>(&s.empty[place.slot], threadIdx.x & 31);
      }
    }
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) product(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t raw[];
  Shared<C>& s = *reinterpret_cast<Shared<C>*>(raw);
  if (threadIdx.x == kWorkers) {
    for (int slot = 0; slot < C::kStages; ++slot) init_barrier(&s.full[slot], 1), init_barrier(&s.empty[slot], kGroups * 4 * C::kCluster);
    for (int entry = 0; entry < C::kQueue; ++entry) init_barrier(&s.queued[entry], 1);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    fence_barrier_init();
  }
  if constexpr (C::kCluster > 1) cluster_sync();
  else __syncthreads();
  start_next_kernel(), wait_for_last_kernel();
  if (threadIdx.x < kWorkers) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kWorkerRegisters));
    work<C>(p, s);
    if constexpr (C::kCluster > 1) cluster_sync();  // a block stays while the other copies into it
  } else {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCopierRegisters));
    if (threadIdx.x == kWorkers) copy<C>(p, s);
    if (C::kIsFirst && threadIdx.x >= kWorkers + 32) clear_outputs(p);
    if constexpr (C::kCluster > 1) cluster_sync();
  }
}

// A launch that may begin while the kernel before it ends; see wait_for_last_kernel.
template <class Kernel, class... Arguments>
int launch_after(Kernel kernel, int blocks, int threads, int smem_bytes, int cluster, cudaStream_t stream, Arguments... arguments) {
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization, attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = cluster, attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks), config.blockDim = dim3(threads), config.dynamicSmemBytes = smem_bytes, config.stream = stream;
  config.attrs = attributes, config.numAttrs = cluster > 1 ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

template <class C>
int launch_product(const Params& p, int num_blocks, cudaStream_t stream) {
  static_assert(sizeof(Shared<C>) <= kSmemBytes && C::kStages >= 4);
  cudaError_t error = cudaFuncSetAttribute(product<C>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared<C>));
  if (error != cudaSuccess) return error;
  return launch_after(product<C>, num_blocks / C::kCluster * C::kCluster, kThreads, sizeof(Shared<C>), C::kCluster, stream, p);
}

#ifndef FP4MOE_CLUSTER
#define FP4MOE_CLUSTER 2
#endif

template <class Format, bool kIsFirst>
int launch_format(const Params& p, int most_tokens, int num_blocks, cudaStream_t stream) {
  if (most_tokens == 64) return launch_product<Config<Format, kIsFirst, 64, FP4MOE_CLUSTER>>(p, num_blocks, stream);
  return launch_product<Config<Format, kIsFirst, kMostTokens, FP4MOE_CLUSTER>>(p, num_blocks, stream);
}

template <bool kIsFirst>
int launch_any(const Params& p, int format, int most_tokens, int num_blocks, cudaStream_t stream) {
  if (most_tokens != 64 && most_tokens != kMostTokens) return cudaErrorInvalidValue;
  switch (format) {
    case 0: return launch_format<Nvfp4E4m3, kIsFirst>(p, most_tokens, num_blocks, stream);
    case 1: return launch_format<Mxfp4E4m3, kIsFirst>(p, most_tokens, num_blocks, stream);
    case 2: return launch_format<StoredE4m3, kIsFirst>(p, most_tokens, num_blocks, stream);
  }
  return cudaErrorInvalidValue;
}

int row_threads(int k) { return min(kMaxRowThreads, (k / 16 + kChunksAThread * 32 - 1) / (kChunksAThread * 32) * 32); }

}  // namespace
}  // namespace fp4moe

extern "C" int fp4moe_e4m3_slots_bytes() { return sizeof(fp4moe::Slots); }

// format: of the weights, 0 NVFP4, 1 MXFP4, 2 FP8. most_tokens: of a tile, 64 or 256. x_is_bf16: else float32, and y is y_sum. Gives a cudaError_t.
extern "C" int fp4moe_moe_e4m3_sm90(const void* w1, const void* w2, const void* scale1, const void* scale2, const void* x,
                                    const void* expert_ids, const void* gate_weights, void* slots, void* xs, void* hs, void* h,
                                    void* x_scale, void* h_scale, void* token_of_position, void* y_sum, void* y, int num_tokens,
                                    int top_k, int num_experts, int hidden, int intermediate, int capacity, int format,
                                    int x_is_bf16, int most_tokens, int num_blocks, void* stream) {
  using namespace fp4moe;
  auto s = static_cast<cudaStream_t>(stream);
  auto* places = static_cast<Slots*>(slots);
  auto* sum = static_cast<float*>(y_sum);
  int num_slots = num_tokens * top_k;
  sort_slots<<<1, kSortThreads, 0, s>>>(static_cast<const int*>(expert_ids), places, num_slots, num_experts, most_tokens);
  auto* rounded_x = static_cast<uint8_t*>(xs);
  auto* rounded_h = static_cast<uint8_t*>(hs);
  auto* scale_x = static_cast<float*>(x_scale);
  auto* scale_h = static_cast<float*>(h_scale);
  auto* tokens = static_cast<int*>(token_of_position);
  auto* h_bf16 = static_cast<__nv_bfloat16*>(h);
  auto round_x = [&](auto* rows) {
    return launch_after(round_tokens<std::remove_pointer_t<decltype(rows)>>, num_tokens, row_threads(hidden), 0, 1, s,
                        static_cast<decltype(rows)>(rows), static_cast<const Slots*>(places), rounded_x, scale_x, top_k, hidden, capacity);
  };
  if (int error = x_is_bf16 ? round_x(static_cast<const __nv_bfloat16*>(x)) : round_x(static_cast<const float*>(x))) return error;
  Params first{static_cast<const uint8_t*>(w1), static_cast<const float*>(scale1), rounded_x, scale_x, nullptr, places, h_bf16, sum,
               2 * intermediate, hidden, num_tokens, hidden, capacity};
  if (int error = launch_any<true>(first, format, most_tokens, num_blocks, s)) return error;
  if (int error = launch_after(round_activations, num_slots + 7 * num_experts, row_threads(intermediate), 0, 1, s,
                               static_cast<const __nv_bfloat16*>(h_bf16), static_cast<const Slots*>(places),
                               static_cast<const float*>(gate_weights), rounded_h, scale_h, tokens, top_k, intermediate, capacity))
    return error;
  Params second{static_cast<const uint8_t*>(w2), static_cast<const float*>(scale2), rounded_h, scale_h, tokens, places, nullptr, sum,
                hidden, intermediate, num_tokens, hidden, capacity};
  if (int error = launch_any<false>(second, format, most_tokens, num_blocks, s)) return error;
  if (!x_is_bf16) return cudaGetLastError();
  return launch_after(to_bf16, 2 * num_blocks, 512, 0, 1, s, static_cast<const float*>(sum), static_cast<__nv_bfloat16*>(y),
                      num_tokens * (hidden / 4));
}
