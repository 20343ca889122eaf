// BatchNorm as every architecture calls it: act(norm(x) + residual). Training normalises with the batch's statistics and
// moves the running ones; a frozen model uses its running statistics, folded, and shows a tap the batch's moments.
#include "core/aten.h"
#include "models/model.h"
#include "ops/norm_act.h"

namespace lpld {

at::Tensor Pass::norm(const BatchNorm& norm, const at::Tensor& x, Tail tail) const {
  if (!training_) {
    const Model::Folded& folded = model_.folded(norm.layer);
    const int64_t groups = tap_ != nullptr ? tap_->groups(x.size(0)) : 0;
    const NormAct out = norm_act({x, tail.residual != nullptr ? *tail.residual : at::Tensor(), folded.scale,
                                  folded.shift, folded.center, tail.act == Act::Relu, groups});
    if (tap_ != nullptr) tap_->see(norm, out.mean, out.variance, x.numel() / (norm.channels * groups));
    return out.y;
  }
  at::Tensor(norm.batches).add_(1);
  at::Tensor y = at::batch_norm(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, /*training=*/true,
                                kBatchNormMomentum, kBatchNormEps, /*cudnn_enabled=*/true);
  if (tail.residual != nullptr) y.add_(*tail.residual);  // in place: the backward of batch_norm needs its input only
  if (tail.act == Act::Relu) y.relu_();
  return y;
}

}  // namespace lpld
