// BatchNorm as every architecture calls it: act(norm(x) + residual). PyTorch's constants: eps 1e-5, momentum
// 0.1.
#include "core/aten.h"
#include "models/model.h"

namespace lpld {

at::Tensor Pass::norm(const BatchNorm& norm, const at::Tensor& x, Tail tail) const {
  constexpr double kEps = 1e-5, kMomentum = 0.1;
  if (tap_ != nullptr) tap_->see(norm, x);
  if (training_) at::Tensor(norm.batches).add_(1);
  at::Tensor y = at::batch_norm(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, training_, kMomentum,
                                kEps, /*cudnn_enabled=*/true);
  if (tail.residual != nullptr) y = y + *tail.residual;
  if (tail.act == Act::Relu) y = at::relu(y);
  return y;
}

}  // namespace lpld
