#pragma once
// pixels: between stored grey levels and network input.
//   normalize_table  [C, 256] float: (level / 255 - mean) / std in float32, as ToTensor and Normalize compute it
//   to_pixels        [n, C, P, P] float -> uint8 [n, P, P, C]: x * std + mean, clamp to [0, 1], times 255, truncated
//                    (QUIRK(truncate): upstream truncates instead of rounding; kept because the method's images are so)
//   source   methods 0.5 "Save"
//   tested   test/ops/pixels.test.ts
#include <ATen/core/Tensor.h>

namespace lpld {
at::Tensor normalize_table(const at::Tensor& mean, const at::Tensor& std);
at::Tensor to_pixels(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& std);
}  // namespace lpld
