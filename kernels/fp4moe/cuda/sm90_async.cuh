// Barriers and copies that run beside the warps: mbarriers, bulk copies, the barrier of the whole grid (sm_90).
#pragma once
#include <cstdint>

namespace fp4moe {

__device__ __forceinline__ uint32_t smem_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void init_barrier(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_address(barrier)), "r"(count) : "memory");
}

__device__ __forceinline__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_address(barrier)) : "memory");
}

__device__ __forceinline__ void arrive_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_address(barrier)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{ .reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again; }" ::"r"(smem_address(barrier)),
      "r"(parity)
      : "memory");
}

// Global to shared memory; counts `bytes` (a multiple of 16) on `full` when they are there.
__device__ __forceinline__ void bulk_load(void* to, const void* from, uint32_t bytes, uint64_t* full, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
          smem_address(to)),
      "l"(from), "r"(bytes), "r"(smem_address(full)), "l"(policy)
      : "memory");
}

__device__ __forceinline__ uint64_t evict_first() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ uint64_t evict_last() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Generic writes of this thread are seen by bulk copies that others start after a barrier.
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async;" ::: "memory"); }

__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// One counter serves the barriers of a launch in turn: the n-th is passed at (n + 1) x blocks. leave() of the last block resets.
__device__ __forceinline__ void grid_arrive(unsigned* counter) {
  __threadfence();
  atomicAdd(counter, 1u);
}

__device__ __forceinline__ bool grid_passed(const unsigned* counter, int barrier) {
  unsigned seen;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
  return seen >= (barrier + 1u) * gridDim.x;
}

// A block that had nothing to wait for in between must not count for the barrier before.
__device__ __forceinline__ void grid_arrive_after(unsigned* counter, int barrier) {
  while (!grid_passed(counter, barrier)) {}
  grid_arrive(counter);
}

__device__ __forceinline__ void grid_leave(unsigned* counter, int num_barriers) {
  if (atomicAdd(counter, 1u) + 1 == (num_barriers + 1u) * gridDim.x) atomicExch(counter, 0u);
}

}  // namespace fp4moe
