#pragma once
// class_moments: per class and channel sums of a layer input, in float64, shifted to avoid cancellation.
//   mean, variance  [B, C] float64 of each image over its `elements` values (norm_act with one group an image)
//   labels          [B] int64, each in [0, K)
//   shift           [C] subtracted first (the layer's running mean)
//   returns         image_sums: per image, class_moments: per class, the sums of x - shift and of its square
//   source          methods 3.2 (pooled estimator and the EMA update both start from these)
//   tested          test/ops/class-moments.test.ts against test/reference/class-moments.ts
#include <ATen/core/Tensor.h>

namespace lpld {
struct ImageSums {
  at::Tensor sum, sum_squares;  // [B, C] float64
};
ImageSums image_sums(const at::Tensor& mean, const at::Tensor& variance, int64_t elements, const at::Tensor& shift);

struct ClassSums {
  at::Tensor sum, sum_squares, images;  // [K, C], [K, C], [K] float64
};
ClassSums class_moments(const ImageSums& sums, const at::Tensor& labels, int64_t classes);
}  // namespace lpld
