// The one exported symbol: the table of all kernels of this library.
#include "kernels/launch.h"
#include "kernels/table.h"

namespace lpld {

int device_memory(int device, int64_t* free, int64_t* total) {
#if defined(__CUDACC__)
  int current = 0;
  size_t free_bytes = 0, total_bytes = 0;
  if (const cudaError_t failed = cudaGetDevice(&current)) return int(failed);
  if (const cudaError_t failed = cudaSetDevice(device)) return int(failed);
  const cudaError_t asked = cudaMemGetInfo(&free_bytes, &total_bytes), restored = cudaSetDevice(current);
  *free = int64_t(free_bytes);
  *total = int64_t(total_bytes);
  return int(asked != cudaSuccess ? asked : restored);
#else
  *free = *total = 0;
  return device == 0 ? 0 : 1;
#endif
}

}  // namespace lpld

extern "C" __attribute__((visibility("default"))) const lpld::KernelTable* lpld_kernels_v2() {
#if defined(__CUDACC__)
  constexpr bool host = false;
#else
  constexpr bool host = true;
#endif
  static const lpld::KernelTable table{host,
                                       lpld::render,
                                       lpld::norm_forward,
                                       lpld::norm_backward,
                                       lpld::match_forward,
                                       lpld::match_backward,
                                       lpld::crop_forward,
                                       lpld::crop_backward,
                                       lpld::pixel_adam,
                                       lpld::record,
                                       lpld::norm_chunks,
                                       lpld::device_memory};
  return &table;
}
