// render: uint8 crop, Pillow-exact resize, flip, cutout and CutMix of a batch on the GPU, byte for byte what
// ops/resized_crop.cpp and data/recipes.cpp do on the CPU: the arithmetic is ops/resample.h and ops/box.h on both sides.
//   each thread owns one output value (row y, column x, channel c of image b); both passes are recomputed per value,
//   since windows are a few samples wide and the source stays in cache; no shared memory
//   earned: not measured on a device yet (no GPU at hand when it was written)
#include <cuda_runtime.h>

#include "kernels/table.h"
#include "ops/box.h"
#include "ops/resample.h"

namespace lpld {

namespace {

__device__ double window_sum(const Window& window) {
  double sum = 0;
  for (int k = 0; k < window.count; ++k) sum += resample_triangle(window, k);
  return sum;
}

__global__ void resized_crop_kernel(RenderArgs args) {
  const int64_t values = args.batch * args.size * args.size * args.channels;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < values; i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t c = i % args.channels, x = i / args.channels % args.size;
    const int64_t y = i / (args.channels * args.size) % args.size, b = i / (args.channels * args.size * args.size);
    if (box_holds(args.cutout + 4 * b, y, x)) {
      args.plain[i] = args.cutout_color[3 * b + c];
      continue;
    }
    const int32_t image = args.index[b];
    const int32_t* crop = args.crop + 4 * b;
    const int64_t stride = int64_t{args.image_size[2 * image + 1]} * args.channels;
    const uint8_t* corner = args.pixels + args.image_offset[image] + crop[0] * stride + crop[1] * args.channels + c;
    const int column = int(args.flip[b] != 0 ? args.size - 1 - x : x);
    const bool narrow = crop[3] == args.size, low = crop[2] == args.size;  // Pillow skips a pass that changes nothing

    const Window across = resample_window(crop[3], int(args.size), column);
    const double across_sum = window_sum(across);
    const auto horizontal = [&](int row) -> uint8_t {
      const uint8_t* line = corner + row * stride;
      if (narrow) return line[column * args.channels];
      int sum = 1 << (kResampleBits - 1);
      for (int k = 0; k < across.count; ++k)
        sum += line[(across.first + k) * args.channels] * resample_weight(across, k, across_sum);
      return resample_round(sum);
    };
    if (low) {
      args.plain[i] = horizontal(int(y));
      continue;
    }
    const Window down = resample_window(crop[2], int(args.size), int(y));
    const double down_sum = window_sum(down);
    int sum = 1 << (kResampleBits - 1);
    for (int k = 0; k < down.count; ++k) sum += horizontal(down.first + k) * resample_weight(down, k, down_sum);
    args.plain[i] = resample_round(sum);
  }
}

// Each thread owns one value of the mixed batch: its own, or its partner's inside the box of a CutMix row.
__global__ void cutmix_kernel(RenderArgs args) {
  const int64_t image = args.size * args.size * args.channels, values = args.batch * image;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < values; i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t b = i / image, x = i / args.channels % args.size, y = i / (args.channels * args.size) % args.size;
    const bool pasted = args.mix_kind[b] == 1 && box_holds(args.mix_box + 4 * b, y, x);
    args.mixed[i] = pasted ? args.plain[args.mix_index[b] * image + i % image] : args.plain[i];
  }
}

}  // namespace

int render(const RenderArgs& args, void* stream) {
  constexpr int kThreads = 256;
  const int64_t values = args.batch * args.size * args.size * args.channels;
  const int64_t wanted = (values + kThreads - 1) / kThreads;
  const int blocks = int(wanted < 65535 ? wanted : 65535);
  if (blocks == 0) return 0;
  const auto on = static_cast<cudaStream_t>(stream);
  resized_crop_kernel<<<blocks, kThreads, 0, on>>>(args);
  cutmix_kernel<<<blocks, kThreads, 0, on>>>(args);
  return int(cudaGetLastError());
}

}  // namespace lpld

extern "C" __attribute__((visibility("default"))) const lpld::KernelTable* lpld_kernels_v1() {
  static const lpld::KernelTable table{lpld::render};
  return &table;
}
