#pragma once
// pixel_adam: one Adam step on the synthetic images, then the clamp to the colours that exist. In place.
//   x, m, v  [N, C, P, P] float       grad like x       step >= 1 (bias correction)
//   low, high [C] bounds of each channel in normalised space
//   QUIRK(late-clamp): the clamp comes after the step, so iterate 0 is seen unclamped and the moments never hear of it; kept
//   source   methods 0.5 steps 4 and 5: betas (.5, .9), eps 1e-8, no weight decay; the clamp does not touch m, v
//   tested   test/ops/pixel-adam.test.ts against test/reference/pixel-adam.ts
#include <ATen/core/Tensor.h>

namespace lpld {
struct AdamRule {
  double lr, beta1, beta2, eps;
};
void pixel_adam(at::Tensor x, at::Tensor m, at::Tensor v, const at::Tensor& grad, int64_t step, const AdamRule& rule,
                const at::Tensor& low, const at::Tensor& high);
}  // namespace lpld
