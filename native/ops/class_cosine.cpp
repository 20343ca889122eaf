#include "ops/class_cosine.h"

#include "core/aten.h"

namespace lpld {

at::Tensor class_cosine(const at::Tensor& features, const at::Tensor& labels, int64_t classes) {
  LPLD_CHECK(features.dim() == 2 && labels.dim() == 1 && labels.size(0) == features.size(0) && classes > 0, Internal,
             "class_cosine: expected features [n, D], labels [n] and K > 0, received ", features.sizes(), ", ",
             labels.sizes(), ", K ", classes);
  const at::Tensor index = labels.cpu().to(at::kLong);
  const at::Tensor rows = features.cpu().to(at::kDouble);  // [n, D]
  LPLD_CHECK(at::isfinite(rows).all().item<bool>(), Diverged, "class_cosine: expected finite features");
  const at::Tensor length = at::sqrt(at::sum(rows * rows, {1}, true));  // [n, 1]
  const at::Tensor unit = at::where(length.gt(0), rows / length, at::zeros({1}, rows.options()));
  const at::Tensor present = length.view({-1}).gt(0).to(at::kDouble);  // [n] |u|^2
  LPLD_CHECK(index.ge(0).logical_and(index.lt(classes)).all().item<bool>(), Data,
             "class_cosine: expected labels in [0, ", classes, ")");
  at::Tensor sum = at::zeros({classes, rows.size(1)}, rows.options());  // [K, D]
  at::Tensor squares = at::zeros({classes}, rows.options()), count = at::zeros({classes}, rows.options());
  sum.index_add_(0, index, unit);
  squares.index_add_(0, index, present);
  count.index_add_(0, index, at::ones_like(present));
  const at::Tensor pairs = count * (count - 1);  // [K] ordered
  const at::Tensor total = at::sum(sum * sum, {1}) - squares;
  return at::where(pairs.gt(0), total / pairs, at::full({1}, std::nan(""), rows.options()));
}

}  // namespace lpld
