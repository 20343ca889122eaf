// render: uint8 crop, Pillow-exact resize, flip, cutout and CutMix of a batch on the GPU, byte for byte what
// ops/resized_crop.cpp and data/recipes.cpp do on the CPU: the arithmetic is ops/resample.h and ops/box.h on both sides.
//   each thread owns one output value (row y, column x, channel c of image b); both passes are recomputed per value,
//   since windows are a few samples wide and the source stays in cache; no shared memory
//   earned: not measured on a device yet (no GPU at hand when it was written)
#include "kernels/launch.h"
#include "kernels/table.h"
#include "ops/box.h"
#include "ops/resample.h"

namespace lpld {

namespace {

LPLD_HD double window_sum(const Window& window) {
  double sum = 0;
  for (int k = 0; k < window.count; ++k) sum += resample_triangle(window, k);
  return sum;
}

struct ResizedCrop {
  RenderArgs args;

  // Source row `row` of the crop, resized across to one column.
  LPLD_HD uint8_t horizontal(const uint8_t* line, int column, bool narrow, const Window& across,
                             double sum_across) const {
    if (narrow) return line[column * args.channels];  // Pillow skips a pass that changes nothing
    int sum = 1 << (kResampleBits - 1);
    for (int k = 0; k < across.count; ++k)
      sum += line[(across.first + k) * args.channels] * resample_weight(across, k, sum_across);
    return resample_round(sum);
  }

  LPLD_HD void operator()(int64_t i) const {
    const int64_t c = i % args.channels, x = i / args.channels % args.size;
    const int64_t y = i / (args.channels * args.size) % args.size, b = i / (args.channels * args.size * args.size);
    if (box_holds(args.cutout + 4 * b, y, x)) {
      args.plain[i] = args.cutout_color[3 * b + c];
      return;
    }
    const int32_t image = args.index[b];
    const int32_t* crop = args.crop + 4 * b;
    const int64_t stride = int64_t{args.image_size[2 * image + 1]} * args.channels;
    const uint8_t* corner = args.pixels + args.image_offset[image] + crop[0] * stride + crop[1] * args.channels + c;
    const int column = int(args.flip[b] != 0 ? args.size - 1 - x : x);
    const bool narrow = crop[3] == args.size;
    const Window across = resample_window(crop[3], int(args.size), column);
    const double sum_across = window_sum(across);
    if (crop[2] == args.size) {
      args.plain[i] = horizontal(corner + y * stride, column, narrow, across, sum_across);
      return;
    }
    const Window down = resample_window(crop[2], int(args.size), int(y));
    const double sum_down = window_sum(down);
    int sum = 1 << (kResampleBits - 1);
    for (int k = 0; k < down.count; ++k)
      sum += horizontal(corner + (down.first + k) * stride, column, narrow, across, sum_across) *
             resample_weight(down, k, sum_down);
    args.plain[i] = resample_round(sum);
  }
};

// A value of the mixed batch: its own, or its partner's inside the box of a CutMix row.
struct CutMix {
  RenderArgs args;

  LPLD_HD void operator()(int64_t i) const {
    const int64_t image = args.size * args.size * args.channels;
    const int64_t b = i / image, x = i / args.channels % args.size, y = i / (args.channels * args.size) % args.size;
    const bool pasted = args.mix_kind[b] == 1 && box_holds(args.mix_box + 4 * b, y, x);
    args.mixed[i] = pasted ? args.plain[args.mix_index[b] * image + i % image] : args.plain[i];
  }
};

}  // namespace

int render(const RenderArgs& args, void* stream) {
  const int64_t values = args.batch * args.size * args.size * args.channels;
  if (const int failed = launch_each(ResizedCrop{args}, values, stream)) return failed;
  return launch_each(CutMix{args}, values, stream);
}

}  // namespace lpld
