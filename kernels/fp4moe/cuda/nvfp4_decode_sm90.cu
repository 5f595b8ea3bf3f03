// One Mixture-of-Experts layer for few tokens, NVFP4 weights x BF16 activations, in one persistent kernel (sm_90 or newer).
//
//   phase 1   h[slot, f] = silu(gate_e x[token]) * (up_e x[token])
//   phase 2   y[token, d] = sum over slots of weight[slot] * down_e h[slot]
//
// In: weights packed by layout.py, x [M, D] BF16, expert ids and gate weights [M, top_k]. Out: y [M, D] BF16.
// Work is a list of units of 16 warps x 2304 bytes of weights; each block takes an equal, contiguous share of it. Every warp
// streams its own part of each unit through a ring of bulk copies that does not drain between units or phases, so the grid
// barrier between the phases and the sums over warps hide behind loads that are already on their way.
//
// Products: mma.m16n8k16 with weight rows as M and tokens as N; a word of 8 codes is one A fragment of a lane. The k order
// inside a 64-wide half is permuted, the same for both operands: lane t of a quad owns block t of 16, so it loads only its
// own scales. value * scale is exact in BF16 (value * 2^-126 by bit moves, scale * 2^118 as BF16): product = v * s * 2^-8.
#include <cuda_bf16.h>
#include <cstdint>

namespace {

constexpr int kWarps = 16;
constexpr int kThreads = kWarps * 32;
constexpr int kChunkK = 128;                       // k of one chunk: 16 rows x 128 k
constexpr int kChunkBytes = 1024 + 128;            // codes, then scales
constexpr int kStageBytes = 2 * kChunkBytes;
constexpr int kStages = 3;
constexpr int kSlots = 6;                          // sums of one warp over 16 rows x 8 tokens kept before they are added up
constexpr int kGroupTokens = 16;                   // tokens of an expert served by one pass over its weights
constexpr int kMaxSlots = 256;
constexpr int kMaxGroups = 128;

struct Params {
  const uint8_t* w1;
  const uint8_t* w2;
  const float* scale1;                             // [E] tensor scale of gate and up, times 2^8
  const float* scale2;                             // [E] of down, times 2^8
  const __nv_bfloat16* x;                          // [M, D]
  const int* expert_ids;                           // [M, top_k]
  const float* gate_weights;                       // [M, top_k]
  __nv_bfloat16* h;                                // [M * top_k, F]
  float* y_sum;                                    // [M, D]
  __nv_bfloat16* y;                                // [M, D]
  unsigned long long* barrier;
  int num_tokens, top_k, num_experts, hidden, intermediate;
};

struct Group { int expert, first, count; };

struct Shared {
  alignas(128) uint8_t ring[kWarps][kStages][kStageBytes];
  alignas(16) float4 partial[2][kSlots][kWarps][32];  // [buffer][slot][warp][lane]
  alignas(8) uint64_t full[kWarps][kStages];       // a stage of the ring has arrived
  uint64_t written[2], added[2];                   // partial[buffer] is whole; has been added up and may be written again
  int ids[kMaxSlots];
  int slots[kMaxSlots];                            // slots in order of expert
  Group groups[kMaxGroups];
  int num_groups;
};

__device__ uint32_t smem_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ void bulk_load(void* to, const void* from, uint64_t* full, uint64_t policy) {
  uint32_t bar = smem_address(full);
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(kStageBytes) : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
          smem_address(to)),
      "l"(from), "r"(kStageBytes), "r"(bar), "l"(policy)
      : "memory");
}

__device__ void init_barrier(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_address(barrier)), "r"(count) : "memory");
}

__device__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_address(barrier)) : "memory");
}

__device__ void wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{ .reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again; }" ::"r"(smem_address(barrier)),
      "r"(parity)
      : "memory");
}

// Two E5M3 scale codes -> BF16 pairs of scale * 2^118.
__device__ uint32_t expand_scale(uint32_t code) { return code * 0x00100010u + 0x76007600u; }

__device__ uint32_t mul_bf16x2(uint32_t a, uint32_t b) {
  uint32_t out;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}

// One word of 8 codes -> an A fragment: rows g, g + 8, g, g + 8 and k pairs 0, 0, 1, 1.
__device__ void dequantize(uint32_t word, uint32_t scale_low, uint32_t scale_high, uint32_t (&a)[4]) {
  constexpr uint32_t mask = 0x81C081C0u;
  uint32_t q3 = ((word >> 3) & 0x01800180u) | ((word << 1) & 0x80008000u) | ((word >> 7) & 0x00400040u);
  a[0] = mul_bf16x2(word & mask, scale_low);
  a[1] = mul_bf16x2((word << 3) & mask, scale_high);
  a[2] = mul_bf16x2((word << 6) & mask, scale_low);
  a[3] = mul_bf16x2(q3, scale_high);
}

__device__ void mma(float4& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x), "+f"(c.y), "+f"(c.z), "+f"(c.w)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A chunk in shared memory, 16 rows x 128 k, times the tokens held in registers. x[half][step][8 tokens][pair].
template <int kTokenTiles>
__device__ void multiply(const uint8_t* chunk, const uint32_t (&x)[2][4][2][2], float4 (&c)[2]) {
  int lane = threadIdx.x & 31;
  uint32_t scales = reinterpret_cast<const uint32_t*>(chunk + 1024)[lane];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t low = expand_scale((scales >> (16 * half)) & 0xff), high = expand_scale((scales >> (16 * half + 8)) & 0xff);
    uint4 codes = reinterpret_cast<const uint4*>(chunk)[half * 32 + lane];
    const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      uint32_t a[4];
      dequantize(words[step], low, high, a);
#pragma unroll
      for (int tile = 0; tile < kTokenTiles; ++tile) mma(c[tile], a, x[half][step][tile][0], x[half][step][tile][1]);
    }
  }
}

// B fragments of one 128-wide chunk: lane (g, t) takes 16 values of block t of each half, of token g of each tile.
// rows[tile]: that token's row of `base`, -1 for none.
__device__ void load_tokens(const __nv_bfloat16* base, int stride, const int (&rows)[2], int k, bool is_inside,
                            uint32_t (&x)[2][4][2][2]) {
  int t = threadIdx.x & 3;
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    bool is_there = is_inside && rows[tile] >= 0;
    const uint4* from = nullptr;
    if (is_there) from = reinterpret_cast<const uint4*>(base + static_cast<size_t>(rows[tile]) * stride + k + t * 16);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        uint4 v = is_there ? __ldcg(from + half * 8 + part) : make_uint4(0, 0, 0, 0);
        x[half][part * 2][tile][0] = v.x, x[half][part * 2][tile][1] = v.y;
        x[half][part * 2 + 1][tile][0] = v.z, x[half][part * 2 + 1][tile][1] = v.w;
      }
    }
  }
}

// One warp sorts slots by expert and cuts each expert's into groups of at most kGroupTokens.
__device__ void make_groups(const Params& p, Shared& s) {
  int num_slots = p.num_tokens * p.top_k, lane = threadIdx.x & 31, num_sorted = 0, num_groups = 0;
  for (int i = lane; i < num_slots; i += 32) s.ids[i] = p.expert_ids[i];
  __syncwarp();
  for (int expert = 0; expert < p.num_experts; ++expert) {
    int begin = num_sorted;
    for (int base = 0; base < num_slots; base += 32) {
      bool is_mine = base + lane < num_slots && s.ids[base + lane] == expert;
      unsigned mine = __ballot_sync(~0u, is_mine);
      if (is_mine) s.slots[num_sorted + __popc(mine & ((1u << lane) - 1))] = base + lane;
      num_sorted += __popc(mine);
    }
    for (int at = begin; at < num_sorted; at += kGroupTokens, ++num_groups)
      if (lane == 0) s.groups[num_groups] = {expert, at, min(kGroupTokens, num_sorted - at)};
  }
  if (lane == 0) s.num_groups = num_groups;
}

// Every block has arrived, and what it wrote before is visible. The counter only grows, so launches need no reset.
__device__ void grid_barrier(unsigned long long* counter) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    unsigned long long blocks = gridDim.x, goal = (atomicAdd(counter, 1ull) / blocks + 1) * blocks, seen;
    do {
      asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(seen) : "l"(counter) : "memory");
    } while (seen < goal);
  }
  __syncthreads();
}

__device__ float4 sum_over_warps(const float4 (*partial)[32], int num_warps) {
  int lane = threadIdx.x & 31;
  float4 total = partial[0][lane];
  for (int warp = 1; warp < num_warps; ++warp) {
    float4 v = partial[warp][lane];
    total.x += v.x, total.y += v.y, total.z += v.z, total.w += v.w;
  }
  return total;
}

__device__ float silu(float v) { return v / (1.0f + __expf(-v)); }

// Which units a block takes. Phase 1: (group, tile of 8 intermediate columns), 16 warps along k. Phase 2: (group, k split of
// 2048, pair of row tiles), 8 warps along k for each tile of the pair.
struct Schedule {
  int first1, count1, first2, count2, tiles1, warps1, stages2, splits2, pairs2;

  __device__ Schedule(const Params& p, int num_groups) {
    tiles1 = p.intermediate / 8, warps1 = (p.hidden / kChunkK + 1) / 2;
    stages2 = (p.intermediate / kChunkK + 1) / 2, splits2 = (stages2 + 7) / 8, pairs2 = p.hidden / 32;
    share(num_groups * tiles1, first1, count1);
    share(num_groups * splits2 * pairs2, first2, count2);
  }
  __device__ static void share(int total, int& first, int& count) {
    long long blocks = gridDim.x, block = blockIdx.x;
    first = static_cast<int>(total * block / blocks);
    count = static_cast<int>(total * (block + 1) / blocks) - first;
  }
  // Warps that share one row tile: all in phase 1, half of them in phase 2, where a unit has two row tiles.
  __device__ int warps_of_tile(bool is_first, int split) const { return is_first ? warps1 : min(kWarps / 2, stages2 - split * 8); }
};

// This warp's parts of the block's units, in order. Within one (group, split) they lie `step` bytes apart.
struct Cursor {
  const uint8_t* at;  // null: this warp has no part in these units
  size_t step;
  int left;           // units until (group, split) changes

  __device__ Cursor(const Params& p, const Shared& s, const Schedule& plan, int i, int warp) {
    bool is_first = i < plan.count1;
    int unit = is_first ? plan.first1 + i : plan.first2 + i - plan.count1;
    int units = is_first ? plan.tiles1 : plan.pairs2, key = unit / units, index = unit % units;
    int split = is_first ? 0 : key % plan.splits2, expert = s.groups[is_first ? key : key / plan.splits2].expert;
    int warps = plan.warps_of_tile(is_first, split) * (is_first ? 1 : 2);
    size_t stages = static_cast<size_t>(expert) * units * (is_first ? plan.warps1 : 2 * plan.stages2);
    stages += static_cast<size_t>(split) * kWarps * units + static_cast<size_t>(index) * warps + warp;
    step = static_cast<size_t>(warps) * kStageBytes;
    at = warp < warps ? (is_first ? p.w1 : p.w2) + stages * kStageBytes : nullptr;
    left = min(units - index, (is_first ? plan.count1 : plan.count1 + plan.count2) - i);
  }
};

// v.x, v.z: gate and up of token `at` and column 8 tile + g; v.y, v.w: of the next token.
__device__ void store_activations(const Params& p, const Shared& s, const Group& group, int tile, int at, float4 v) {
  float scale = p.scale1[group.expert];
  int column = tile * 8 + (threadIdx.x & 31) / 4;
  auto put = [&](int token, float gate, float up) {
    if (token >= group.count) return;
    size_t row = s.slots[group.first + token];
    p.h[row * p.intermediate + column] = __float2bfloat16(silu(gate * scale) * (up * scale));
  };
  put(at, v.x, v.z), put(at + 1, v.y, v.w);
}

// v.x, v.z: rows g and g + 8 of the tile for token `at`; v.y, v.w: for the next token.
__device__ void add_outputs(const Params& p, const Shared& s, const Group& group, int tile, int at, float4 v) {
  int row = tile * 16 + (threadIdx.x & 31) / 4;
  auto add = [&](int token, float low, float high) {
    if (token >= group.count) return;
    int slot = s.slots[group.first + token];
    float weight = p.gate_weights[slot] * p.scale2[group.expert];
    float* to = p.y_sum + static_cast<size_t>(slot / p.top_k) * p.hidden + row;
    atomicAdd(to, low * weight), atomicAdd(to + 8, high * weight);
  };
  add(at, v.x, v.z), add(at + 1, v.y, v.w);
}

__global__ void __launch_bounds__(kThreads, 1) moe_decode(const Params p) {
  extern __shared__ __align__(128) uint8_t raw[];
  Shared& s = *reinterpret_cast<Shared*>(raw);
  int warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  if (lane == 0) {
    for (int stage = 0; stage < kStages; ++stage) init_barrier(&s.full[warp][stage], 1);
    if (warp == 0)
      for (int buffer = 0; buffer < 2; ++buffer) init_barrier(&s.written[buffer], kThreads), init_barrier(&s.added[buffer], kThreads);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  if (warp == 0) make_groups(p, s);
  __syncthreads();
  Schedule plan(p, s.num_groups);
  int total = plan.count1 + plan.count2;
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));

  Cursor next(p, s, plan, 0, warp);
  int requested = 0;
  auto request = [&]() {  // ask for this warp's part of the next unit
    if (requested >= total) return;
    if (lane == 0 && next.at != nullptr)
      bulk_load(s.ring[warp][requested % kStages], next.at, &s.full[warp][requested % kStages], policy);
    ++requested, next.at += next.at == nullptr ? 0 : next.step;
    if (--next.left == 0 && requested < total) next = Cursor(p, s, plan, requested, warp);
  };
  for (int i = 0; i < kStages; ++i) request();
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < p.num_tokens * p.hidden; i += gridDim.x * kThreads) p.y_sum[i] = 0.0f;

  uint32_t x[2][2][4][2][2];  // [chunk][half][step][8 tokens][pair]
  int key = plan.first1 / plan.tiles1, index = plan.first1 % plan.tiles1;  // (group, tile) or (group x split, pair)
  int held = -1;              // the key whose tokens x holds; what follows from it:
  Group group = {0, 0, 0};
  int num_warps = 0;
  bool is_working = false;
  uint32_t uses = 0;          // bit s: parity of ring slot s
  int batch = 0, batched = 0, turn = 0;  // batches so far, units in this one, whose turn it is to add up
  for (int i = 0; i < total; ++i, ++index) {
    bool is_first = i < plan.count1;
    if (i == plan.count1) {
      grid_barrier(p.barrier);
      key = plan.first2 / plan.pairs2, index = plan.first2 % plan.pairs2, held = -1;
    }
    int units = is_first ? plan.tiles1 : plan.pairs2;
    if (index == units) index = 0, ++key;
    if (key != held) {
      held = key;
      int split = is_first ? 0 : key % plan.splits2;
      group = s.groups[is_first ? key : key / plan.splits2];
      num_warps = plan.warps_of_tile(is_first, split);
      is_working = warp < (is_first ? num_warps : 2 * num_warps);
      int rows[2];
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        rows[tile] = tile * 8 + g < group.count ? s.slots[group.first + tile * 8 + g] : -1;
        if (is_first && rows[tile] >= 0) rows[tile] /= p.top_k;
      }
      if (is_first) {
        int k = warp * 2 * kChunkK;
        load_tokens(p.x, p.hidden, rows, k, is_working, x[0]);
        load_tokens(p.x, p.hidden, rows, k + kChunkK, is_working && k + kChunkK < p.hidden, x[1]);
      } else {
        int k = (split * 8 + warp % num_warps) * 2 * kChunkK;
        load_tokens(p.h, p.intermediate, rows, k, is_working, x[0]);
        load_tokens(p.h, p.intermediate, rows, k + kChunkK, is_working && k + kChunkK < p.intermediate, x[1]);
      }
    }
    float4 c[2] = {};  // of 8 tokens each
    if (is_working) {
      int slot = i % kStages;
      wait(&s.full[warp][slot], (uses >> slot) & 1);
      uses ^= 1u << slot;
      const uint8_t* at = s.ring[warp][slot];
      if (group.count <= 8) multiply<1>(at, x[0], c), multiply<1>(at + kChunkBytes, x[1], c);
      else multiply<2>(at, x[0], c), multiply<2>(at + kChunkBytes, x[1], c);
      __syncwarp();
    }
    request();
    int buffer = batch & 1, token_tiles = group.count <= 8 ? 1 : 2;
    if (batched == 0 && batch >= 2) wait(&s.added[buffer], (batch / 2 + 1) & 1);
    s.partial[buffer][batched * token_tiles][warp][lane] = c[0];
    if (token_tiles == 2) s.partial[buffer][batched * 2 + 1][warp][lane] = c[1];
    ++batched;
    bool is_last = i + 1 == plan.count1 || i + 1 == total || index + 1 == units;
    if (!is_last && (batched + 1) * token_tiles <= kSlots) continue;
    // One warp for each 16 rows x 8 tokens adds the batch up, each batch other warps; the rest go on.
    arrive(&s.written[buffer]);
    int num_tiles = is_first ? 1 : 2, job = (warp - turn) & (kWarps - 1), jobs = batched * num_tiles * token_tiles;
    if (job < jobs) {
      wait(&s.written[buffer], (batch / 2) & 1);
      int tokens = job % token_tiles, half = job / token_tiles % num_tiles, unit = job / (token_tiles * num_tiles);
      int tile = (index + 1 - batched + unit) * num_tiles + half;
      float4 v = sum_over_warps(s.partial[buffer][unit * token_tiles + tokens] + half * num_warps, num_warps);
      if (is_first) store_activations(p, s, group, tile, tokens * 8 + t * 2, v);
      else add_outputs(p, s, group, tile, tokens * 8 + t * 2, v);
    }
    arrive(&s.added[buffer]);
    turn += jobs, batched = 0, ++batch;
  }
  if (plan.count2 == 0) grid_barrier(p.barrier);  // a block without phase 2 work still arrives
  grid_barrier(p.barrier);
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < p.num_tokens * p.hidden; i += gridDim.x * kThreads)
    p.y[i] = __float2bfloat16(__ldcg(&p.y_sum[i]));
}

}  // namespace

extern "C" int fp4moe_nvfp4_decode_sm90(const void* w1, const void* w2, const void* scale1, const void* scale2, const void* x,
                                        const void* expert_ids, const void* gate_weights, void* h, void* y_sum, void* y,
                                        void* barrier, int num_tokens, int top_k, int num_experts,
                                        int hidden, int intermediate, int num_blocks, void* stream) {
  Params p{static_cast<const uint8_t*>(w1), static_cast<const uint8_t*>(w2), static_cast<const float*>(scale1),
           static_cast<const float*>(scale2), static_cast<const __nv_bfloat16*>(x), static_cast<const int*>(expert_ids),
           static_cast<const float*>(gate_weights), static_cast<__nv_bfloat16*>(h), static_cast<float*>(y_sum),
           static_cast<__nv_bfloat16*>(y), static_cast<unsigned long long*>(barrier),
           num_tokens, top_k, num_experts, hidden, intermediate};
  cudaError_t error = cudaFuncSetAttribute(moe_decode, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared));
  if (error != cudaSuccess) return error;
  void* arguments[] = {&p};
  return cudaLaunchCooperativeKernel(reinterpret_cast<void*>(moe_decode), dim3(num_blocks), dim3(kThreads), arguments,
                                     sizeof(Shared), static_cast<cudaStream_t>(stream));
}
