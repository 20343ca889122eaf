#pragma once
// class_moments: per class and channel sums of a layer input, in float64, shifted to avoid cancellation.
//   x        [B, C, H, W] float       labels [B] int64, each in [0, K)
//   shift    [C] subtracted first (the layer's running mean)
//   returns  per image sums over (H, W): sum, sum_squares [B, C] float64 of x - shift
//   source   methods 3.2 (pooled estimator and the EMA update both start from these)
//   tested   test/ops/class-moments.test.ts against test/reference/class-moments.ts
#include <ATen/core/Tensor.h>

namespace lpld {
struct ImageSums {
  at::Tensor sum, sum_squares;  // [B, C] float64
  int64_t elements;             // H*W
};
ImageSums image_sums(const at::Tensor& x, const at::Tensor& shift);

struct ClassSums {
  at::Tensor sum, sum_squares, images;  // [K, C], [K, C], [K] float64
};
ClassSums class_moments(const ImageSums& sums, const at::Tensor& labels, int64_t classes);
}  // namespace lpld
