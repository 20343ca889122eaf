#pragma once
// How a kernel's body runs: launched by nvcc, or, where g++ compiles the same .cu, as plain loops over the same blocks and
// threads, so that index arithmetic is tested without a card (kernels/emulation.cpp). A body is a struct of arguments whose
// members are host-device functions; what threads share lives in Body::Shared between phases with a barrier.
#include <cstdint>
#include <cstring>

#include "core/host_device.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace lpld {

constexpr int kThreads = 256;
struct Nothing {};  // Shared of a body of one phase

#if defined(__CUDACC__)

template <class Body>
__global__ void __launch_bounds__(kThreads) each_kernel(Body body, int64_t count) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads) body(i);
}

template <class Body>
__global__ void __launch_bounds__(kThreads) block_kernel(Body body) {
  __shared__ typename Body::Shared shared;
  body.first(int64_t(blockIdx.x), int(threadIdx.x), shared);
  if constexpr (Body::kPhases > 1) {
    __syncthreads();
    body.second(int64_t(blockIdx.x), int(threadIdx.x), shared);
  }
  if constexpr (Body::kPhases > 2) {
    __syncthreads();
    body.third(int64_t(blockIdx.x), int(threadIdx.x), shared);
  }
}

// body(i) for each i in [0, count).
template <class Body>
int launch_each(const Body& body, int64_t count, void* stream) {
  if (count == 0) return 0;
  const int64_t wanted = (count + kThreads - 1) / kThreads, most = 1 << 20;
  each_kernel<<<unsigned(wanted < most ? wanted : most), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(body, count);
  return int(cudaGetLastError());
}

// The phases of a body in each of `blocks` blocks of kThreads threads.
template <class Body>
int launch_blocks(const Body& body, int64_t blocks, void* stream) {
  if (blocks == 0) return 0;
  if (blocks > 0x7fffffff) return int(cudaErrorInvalidConfiguration);
  block_kernel<<<unsigned(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(body);
  return int(cudaGetLastError());
}

#else

template <class Body>
int launch_each(const Body& body, int64_t count, void*) {
  for (int64_t i = count - 1; i >= 0; --i) body(i);
  return 0;
}

// Shared memory starts as NaN, and threads run backwards in the first phase: a read of what no thread wrote, or of what
// another thread writes in the same phase, shows.
template <class Body>
int launch_blocks(const Body& body, int64_t blocks, void*) {
  auto* shared = new typename Body::Shared;
  for (int64_t block = 0; block < blocks; ++block) {
    std::memset(static_cast<void*>(shared), 0xff, sizeof(*shared));
    for (int thread = kThreads - 1; thread >= 0; --thread) body.first(block, thread, *shared);
    if constexpr (Body::kPhases > 1)
      for (int thread = 0; thread < kThreads; ++thread) body.second(block, thread, *shared);
    if constexpr (Body::kPhases > 2)
      for (int thread = kThreads - 1; thread >= 0; --thread) body.third(block, thread, *shared);
  }
  delete shared;
  return 0;
}

#endif

}  // namespace lpld
