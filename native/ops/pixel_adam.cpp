#include "ops/pixel_adam.h"

#include "core/aten.h"
#include "ops/optimizer.h"

namespace lpld {

void pixel_adam(at::Tensor x, at::Tensor m, at::Tensor v, const at::Tensor& grad, int64_t step, const AdamRule& rule,
                const at::Tensor& low, const at::Tensor& high) {
  adamw_step(x, m, v, grad, step, {rule.lr, rule.beta1, rule.beta2, rule.eps, 0.0});
  const at::Tensor bound_low = low.view({1, -1, 1, 1}), bound_high = high.view({1, -1, 1, 1});
  x.clamp_(bound_low, bound_high);
}

}  // namespace lpld
