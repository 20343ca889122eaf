#include "ops/image_prior.h"

#include "core/aten.h"

namespace lpld {

ImagePrior image_prior(const at::Tensor& x, int64_t groups) {
  LPLD_CHECK(x.dim() == 4 && groups > 0 && x.size(0) % groups == 0, Internal,
             "image_prior: expected x [G*n, C, P, P] with G = ", groups, ", received ", x.sizes());
  const int64_t h = x.size(2), w = x.size(3);
  const auto norm = [&](const at::Tensor& difference) {
    return at::linalg_vector_norm(difference.reshape({groups, -1}), 2, at::IntArrayRef{1});
  };
  const auto part = [&](int64_t y0, int64_t x0, int64_t rows, int64_t columns) {
    return x.narrow(2, y0, rows).narrow(3, x0, columns);
  };
  const at::Tensor tv = norm(part(0, 0, h, w - 1) - part(0, 1, h, w - 1)) +
                        norm(part(0, 0, h - 1, w) - part(1, 0, h - 1, w)) +
                        norm(part(1, 0, h - 1, w - 1) - part(0, 1, h - 1, w - 1)) +
                        norm(part(0, 0, h - 1, w - 1) - part(1, 1, h - 1, w - 1));
  const at::Tensor l2 =
      at::linalg_vector_norm(x.reshape({groups, x.size(0) / groups, -1}), 2, at::IntArrayRef{2});  // [G, n]
  return {tv, l2.mean(1)};
}

}  // namespace lpld
