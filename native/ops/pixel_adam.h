#pragma once
// pixel_adam: one Adam step on the synthetic images, then the clamp to the colours that exist. In place.
//   x, m, v  [N, C, P, P] float       grad like x
//   low, high [C] bounds of each channel in normalised space, on the device of x
//   step     >= 1 (bias correction); in the second form the row of a table that a counter on the device names
//   QUIRK(late-clamp): the clamp comes after the step, so iterate 0 is seen unclamped and the moments never hear of it; kept
//   source   methods 0.5 steps 4 and 5: betas (.5, .9), eps 1e-8, no weight decay; the clamp does not touch m, v
//   tested   test/ops/optimizer.test.ts against test/reference/optimizer.ts; the kernel in test/kernels.test.ts
#include <ATen/core/Tensor.h>

namespace lpld {

struct AdamRule {
  double lr, beta1, beta2, eps;
};
void pixel_adam(at::Tensor x, at::Tensor m, at::Tensor v, const at::Tensor& grad, int64_t step, const AdamRule& rule,
                const at::Tensor& low, const at::Tensor& high);

// double [S, 2] on the CPU: lr[t] / (1 - beta1^(done + t + 1)), sqrt(1 - beta2^(done + t + 1)); `done` steps came before.
at::Tensor adam_table(const at::Tensor& lr, int64_t done, double beta1, double beta2);

// The same with our kernel, which must serve x. x, m, v contiguous; table and counter (int64 [1]) on the device of x;
// rule.lr is not read.
void pixel_adam(at::Tensor x, at::Tensor m, at::Tensor v, const at::Tensor& grad, const at::Tensor& table,
                const at::Tensor& counter, const AdamRule& rule, const at::Tensor& low, const at::Tensor& high);

}  // namespace lpld
