#pragma once
// One optimizer step on one parameter, in place, with torch.optim's arithmetic.
//   adamw    decoupled weight decay (torch.optim.AdamW; with weight_decay 0 it is Adam)
//   sgd      momentum with the decay added to the gradient (torch.optim.SGD, no dampening, no Nesterov)
//   step     >= 1, counted per parameter; sgd initialises its buffer with the gradient at step 1
//   tested   test/ops/optimizer.test.ts against test/reference/optimizer.ts and torch.optim
#include <ATen/core/Tensor.h>

namespace lpld {
struct AdamWRule {
  double lr, beta1, beta2, eps, weight_decay;
};
struct SgdRule {
  double lr, momentum, weight_decay;
};
void adamw_step(at::Tensor parameter, at::Tensor m, at::Tensor v, const at::Tensor& grad, int64_t step,
                const AdamWRule& rule);
void sgd_step(at::Tensor parameter, at::Tensor m, const at::Tensor& grad, int64_t step, const SgdRule& rule);
}  // namespace lpld
