#include "ops/pixels.h"

#include "core/aten.h"

namespace lpld {

at::Tensor normalize_table(const at::Tensor& mean, const at::Tensor& std) {
  LPLD_CHECK(mean.dim() == 1 && mean.sizes() == std.sizes(), Internal,
             "normalize_table: expected mean and std [C], received ", mean.sizes(), " and ", std.sizes());
  at::Tensor table = at::empty({mean.size(0), 256}, at::kFloat);
  const float* m = mean.const_data_ptr<float>();
  const float* s = std.const_data_ptr<float>();
  float* out = table.mutable_data_ptr<float>();
  for (int64_t c = 0; c < mean.size(0); ++c)
    for (int level = 0; level < 256; ++level) out[c * 256 + level] = (float(level) / 255.0f - m[c]) / s[c];
  return table;
}

at::Tensor to_pixels(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& std) {
  LPLD_CHECK(x.dim() == 4 && mean.size(0) == x.size(1) && std.sizes() == mean.sizes(), Internal,
             "to_pixels: expected x [n, C, P, P], mean and std [C], received ", x.sizes(), ", ", mean.sizes());
  const at::Tensor shown = x * std.view({1, -1, 1, 1}) + mean.view({1, -1, 1, 1});
  return at::clamp(shown, 0, 1).mul(255).to(at::kByte).permute({0, 2, 3, 1}).contiguous();
}

}  // namespace lpld
