#include "ops/class_moments.h"

#include "core/aten.h"

namespace lpld {

ImageSums image_sums(const at::Tensor& mean, const at::Tensor& variance, int64_t elements, const at::Tensor& shift) {
  LPLD_CHECK(mean.dim() == 2 && variance.sizes() == mean.sizes() && shift.dim() == 1 && shift.size(0) == mean.size(1),
             Internal, "class_moments: expected mean and variance [B, C] and shift [C], received ", mean.sizes(), ", ",
             variance.sizes(), " and ", shift.sizes());
  const at::Tensor centred = mean - shift;  // [B, C]
  return {centred * double(elements), (variance + centred * centred) * double(elements)};
}

ClassSums class_moments(const ImageSums& sums, const at::Tensor& labels, int64_t classes) {
  const auto wide = sums.sum.options();
  const at::Tensor zero = at::zeros({classes, sums.sum.size(1)}, wide);
  return {zero.index_add(0, labels, sums.sum), zero.index_add(0, labels, sums.sum_squares),
          at::zeros({classes}, wide).index_add(0, labels, at::ones({labels.size(0)}, wide))};
}

}  // namespace lpld
