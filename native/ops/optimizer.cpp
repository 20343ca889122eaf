#include "ops/optimizer.h"

#include "core/aten.h"

namespace lpld {

void adamw_step(at::Tensor parameter, at::Tensor m, at::Tensor v, const at::Tensor& grad, int64_t step,
                const AdamWRule& rule) {
  if (rule.weight_decay != 0) parameter.mul_(1 - rule.lr * rule.weight_decay);
  m.lerp_(grad, 1 - rule.beta1);
  v.mul_(rule.beta2).addcmul_(grad, grad, 1 - rule.beta2);
  const double correction1 = 1 - std::pow(rule.beta1, double(step)),
               correction2 = 1 - std::pow(rule.beta2, double(step));
  const at::Tensor denominator = v.sqrt().div_(std::sqrt(correction2)).add_(rule.eps);
  parameter.addcdiv_(m, denominator, -rule.lr / correction1);
}

void sgd_step(at::Tensor parameter, at::Tensor m, const at::Tensor& grad, int64_t step, const SgdRule& rule) {
  const at::Tensor direction = rule.weight_decay != 0 ? grad.add(parameter, rule.weight_decay) : grad;
  if (rule.momentum == 0) {
    parameter.add_(direction, -rule.lr);
    return;
  }
  if (step == 1)
    m.copy_(direction);
  else
    m.mul_(rule.momentum).add_(direction);
  parameter.add_(m, -rule.lr);
}

}  // namespace lpld
