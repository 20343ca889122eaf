#include "ops/class_moments.h"

#include "core/aten.h"

namespace lpld {

ImageSums image_sums(const at::Tensor& x, const at::Tensor& shift) {
  LPLD_CHECK(x.dim() == 4 && shift.dim() == 1 && shift.size(0) == x.size(1), Internal,
             "class_moments: expected x [B, C, H, W] and shift [C], received ", x.sizes(), " and ", shift.sizes());
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor centred = x.to(wide) - shift.view({1, -1, 1, 1}).to(wide);
  return {at::sum(centred, {2, 3}, false, at::kDouble), at::sum(centred * centred, {2, 3}, false, at::kDouble),
          x.size(2) * x.size(3)};
}

ClassSums class_moments(const ImageSums& sums, const at::Tensor& labels, int64_t classes) {
  const auto wide = sums.sum.options();
  const at::Tensor zero = at::zeros({classes, sums.sum.size(1)}, wide);
  return {zero.index_add(0, labels, sums.sum), zero.index_add(0, labels, sums.sum_squares),
          at::zeros({classes}, wide).index_add(0, labels, at::ones({labels.size(0)}, wide))};
}

}  // namespace lpld
