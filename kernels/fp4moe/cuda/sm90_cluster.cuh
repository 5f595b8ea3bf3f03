// Two blocks that work together: copies into both, barriers of both (sm_90).
#pragma once
#include <cstdint>

#include "sm90_async.cuh"

namespace fp4moe {

__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// Barriers that this thread has made are seen by the other block after cluster_sync.
__device__ __forceinline__ void fence_barrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives at the barrier that lies at the same place in block `rank`. Says that this thread has read, not that it has written: a release
// to the whole cluster would be a fence of the GPU.
__device__ __forceinline__ void arrive_at(uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(smem_address(barrier)),
      "r"(rank)
      : "memory");
}

// bulk_load into the same place of every block in `mask`; counts on the barrier at the same place of each.
__device__ __forceinline__ void bulk_load_to(void* to, const void* from, uint32_t bytes, uint64_t* full, uint16_t mask, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint [%0], [%1], %2, [%3], %4, %5;" ::"r"(
          smem_address(to)),
      "l"(from), "r"(bytes), "r"(smem_address(full)), "h"(mask), "l"(policy)
      : "memory");
}

}  // namespace fp4moe
