#pragma once
// Pillow's 8-bit bilinear resampler as host-device inline arithmetic: the CPU body and the CUDA kernel are this code.
// Triangle filter with support scaled by max(1, in/out); weights normalised in double, then 22 fractional bits.
// Source: methods 0.8 (measured equal to Pillow); tested against Pillow's own bytes in test/ops/resized-crop.test.ts.
#include <cstdint>

#include "core/host_device.h"

namespace lpld {

constexpr int kResampleBits = 22;

struct Window {
  int first, count;      // source samples [first, first + count)
  double center, scale;  // in source px; scale = max(1, in/out)
};

LPLD_HD Window resample_window(int in, int out, int position) {
  const double ratio = double(in) / double(out);
  const double scale = ratio < 1.0 ? 1.0 : ratio;
  const double center = (position + 0.5) * ratio;
  int first = int(center - scale + 0.5);
  if (first < 0) first = 0;
  int last = int(center + scale + 0.5);
  if (last > in) last = in;
  return {first, last - first, center, scale};
}

LPLD_HD double resample_triangle(const Window& window, int k) {
  double t = (k + window.first - window.center + 0.5) * (1.0 / window.scale);
  if (t < 0.0) t = -t;
  return t < 1.0 ? 1.0 - t : 0.0;
}

// Weight k of the window in units of 2^-22, given the sum of its triangle weights.
LPLD_HD int resample_weight(const Window& window, int k, double sum) {
  const double weight = sum != 0.0 ? resample_triangle(window, k) / sum : 0.0;
  return int(0.5 + weight * double(1 << kResampleBits));
}

LPLD_HD uint8_t resample_round(int accumulator) {
  const int value = accumulator >> kResampleBits;
  return uint8_t(value < 0 ? 0 : value > 255 ? 255 : value);
}

}  // namespace lpld
