// BatchNorm as every architecture calls it: act(norm(x) + residual). Training normalises with the batch's statistics and
// moves the running ones; a frozen model uses its running statistics, folded, and shows a tap the batch's moments, or it
// normalises with the batch's statistics and moves nothing.
#include "core/aten.h"
#include "models/model.h"
#include "ops/norm_act.h"

namespace lpld {

Pass Pass::with_batch_statistics(const Model& model, at::ScalarType dtype) {
  Pass pass(model, /*training=*/false, dtype, nullptr);
  pass.batch_statistics_ = true;
  return pass;
}

at::Tensor Pass::norm(const BatchNorm& norm, const at::Tensor& x, Tail tail) const {
  if (!training_ && !batch_statistics_) {
    const Model::Folded& folded = model_.folded(norm.layer);
    const int64_t groups = tap_ != nullptr ? tap_->groups(x.size(0)) : 0;
    const NormAct out = norm_act({x, tail.residual != nullptr ? *tail.residual : at::Tensor(), folded.scale,
                                  folded.shift, folded.center, tail.act == Act::Relu, groups});
    if (tap_ != nullptr) tap_->see(norm, out.mean, out.variance, x.numel() / (norm.channels * groups));
    return out.y;
  }
  if (training_) at::Tensor(norm.batches).add_(1);
  const at::Tensor nowhere;  // for the running statistics of a pass that moves none
  at::Tensor y = at::batch_norm(x, norm.weight, norm.bias, training_ ? norm.running_mean : nowhere,
                                training_ ? norm.running_var : nowhere, /*training=*/true, kBatchNormMomentum,
                                kBatchNormEps, /*cudnn_enabled=*/true);
  if (tail.residual != nullptr) y.add_(*tail.residual);  // in place: the backward of batch_norm needs its input only
  if (tail.act == Act::Relu) y.relu_();
  return y;
}

}  // namespace lpld
