#include "ops/pixel_adam.h"

#include "core/aten.h"
#include "core/kernels.h"
#include "ops/optimizer.h"

namespace lpld {

void pixel_adam(at::Tensor x, at::Tensor m, at::Tensor v, const at::Tensor& grad, int64_t step, const AdamRule& rule,
                const at::Tensor& low, const at::Tensor& high) {
  if (x.scalar_type() == at::kFloat && kernels_for(x) != nullptr) {
    const at::Tensor lr = at::full({1}, rule.lr, at::kDouble);
    const at::Tensor counter = at::zeros({1}, at::TensorOptions().dtype(at::kLong).device(x.device()));
    pixel_adam(x, m, v, grad, adam_table(lr, step - 1, rule.beta1, rule.beta2).to(x.device()), counter, rule, low,
               high);
    return;
  }
  adamw_step(x, m, v, grad, step, {rule.lr, rule.beta1, rule.beta2, rule.eps, 0.0});
  const at::Tensor bound_low = low.view({1, -1, 1, 1}), bound_high = high.view({1, -1, 1, 1});
  x.clamp_(bound_low, bound_high);
}

at::Tensor adam_table(const at::Tensor& lr, int64_t done, double beta1, double beta2) {
  at::Tensor table = at::empty({lr.size(0), 2}, at::kDouble);
  double* row = table.mutable_data_ptr<double>();
  for (int64_t t = 0; t < lr.size(0); ++t, row += 2) {
    const double step = double(done + t + 1);
    row[0] = lr.const_data_ptr<double>()[t] / (1 - std::pow(beta1, step));
    row[1] = std::sqrt(1 - std::pow(beta2, step));
  }
  return table;
}

void pixel_adam(at::Tensor x, at::Tensor m, at::Tensor v, const at::Tensor& grad, const at::Tensor& table,
                const at::Tensor& counter, const AdamRule& rule, const at::Tensor& low, const at::Tensor& high) {
  const at::Tensor gradient = grad.contiguous();
  launch("pixel_adam", kernels_for(x)->pixel_adam, x,
         PixelAdamArgs{x.mutable_data_ptr<float>(), m.mutable_data_ptr<float>(), v.mutable_data_ptr<float>(),
                       gradient.const_data_ptr<float>(), table.const_data_ptr<double>(),
                       counter.const_data_ptr<int64_t>(), low.const_data_ptr<float>(), high.const_data_ptr<float>(),
                       x.numel(), x.size(1), x.size(2) * x.size(3), rule.beta1, rule.beta2, rule.eps});
}

}  // namespace lpld
