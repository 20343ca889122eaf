// Convolution and BatchNorm as every architecture calls them: act(norm(conv(x)) + residual). Training normalises with the
// batch's statistics and moves the running ones; a frozen model uses its running statistics, folded into the convolution
// where nothing but the answer is asked, and shows a tap the batch's moments; or it normalises with the batch's statistics
// and moves nothing.
#include "core/aten.h"
#include "models/model.h"
#include "ops/batch_norm_act.h"
#include "ops/conv_norm_act.h"
#include "ops/norm_act.h"

namespace lpld {

Pass::Pass(Model& model, Mode mode, at::ScalarType dtype, BnTap* tap, bool differentiable)
    : model_(model), mode_(mode), dtype_(dtype), tap_(tap) {
  model.set_trainable(mode == Mode::Training);
  if (mode == Mode::Training) return;
  const bool folds = mode == Mode::Answering && can_fold(at::Device(model.options.device), dtype);
  model.freeze(dtype, {.fold_norms = folds, .winograd = mode != Mode::Answering, .gradients = differentiable});
}
Pass Pass::training(Model& model, at::ScalarType dtype) { return {model, Mode::Training, dtype, nullptr, true}; }
Pass Pass::answering(Model& model, at::ScalarType dtype) { return {model, Mode::Answering, dtype, nullptr, false}; }
Pass Pass::tapped(Model& model, at::ScalarType dtype, BnTap& tap, bool differentiable) {
  return {model, Mode::Tapped, dtype, &tap, differentiable};
}
Pass Pass::with_batch_statistics(Model& model, at::ScalarType dtype) {
  return {model, Mode::BatchStatistics, dtype, nullptr, false};
}

at::Tensor Pass::conv_norm(const Conv& conv, const BatchNorm& norm, const at::Tensor& x, Tail tail) const {
  const FoldedConv* folded = mode_ == Mode::Answering ? model_.folded_conv(norm.layer) : nullptr;
  if (folded == nullptr) return this->norm(norm, this->conv(conv, x), tail);
  return conv_norm_act({x, tail.residual != nullptr ? *tail.residual : at::Tensor(), *folded, tail.act == Act::Relu});
}

at::Tensor Pass::norm(const BatchNorm& norm, const at::Tensor& x, Tail tail) const {
  if (mode_ == Mode::Answering || mode_ == Mode::Tapped) {
    const Model::Folded& folded = model_.folded(norm.layer);
    const int64_t groups = tap_ != nullptr ? tap_->groups(x.size(0)) : 0;
    const NormAct out = norm_act({x, tail.residual != nullptr ? *tail.residual : at::Tensor(), folded.scale,
                                  folded.shift, folded.center, tail.act == Act::Relu, groups});
    if (tap_ != nullptr) tap_->see(norm, out.mean, out.variance, x.numel() / (norm.channels * groups));
    return out.y;
  }
  const bool moving = mode_ == Mode::Training;
  if (moving) at::Tensor(norm.batches).add_(1);
  const at::Tensor nowhere;  // for the running statistics of a pass that moves none
  return batch_norm_act({x, tail.residual != nullptr ? *tail.residual : at::Tensor(), norm.weight, norm.bias,
                         moving ? norm.running_mean : nowhere, moving ? norm.running_var : nowhere, kBatchNormMomentum,
                         kBatchNormEps, tail.act == Act::Relu});
}

}  // namespace lpld
