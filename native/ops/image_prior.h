#pragma once
// image_prior: the optional smoothness terms of the ImageNet scripts, per class group.
//   x        [G*n, C, P, P] float
//   returns  tv [G]: sum of the Frobenius norms of the horizontal, vertical and two diagonal difference tensors of the
//            group; l2 [G]: mean over the group's images of the image's L2 norm. Differentiable in x.
//   source   methods 0.4 (every published script gives both weight 0)
//   tested   test/ops/image-prior.test.ts against test/reference/image-prior.ts
#include <ATen/core/Tensor.h>

namespace lpld {
struct ImagePrior {
  at::Tensor tv, l2;  // [G]
};
ImagePrior image_prior(const at::Tensor& x, int64_t groups);
}  // namespace lpld
