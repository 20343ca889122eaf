#pragma once
// The state of one segment of synthesis on its device, and the parts of an iteration that depend on which iteration it is:
// its draw, its rate, its row of the losses. Where our kernels serve the images all of that is read at a counter on the
// device, so that every iteration launches the same work; elsewhere the host counts along.
#include "jobs/synthesize.h"
#include "ops/crop_flip_roll.h"

namespace lpld {

class SynthesisSegment {
 public:
  // Checks the shapes of the spec. Throws E_INTERNAL.
  SynthesisSegment(const SynthesizeSpec& spec, int64_t layers, const at::Device& device);

  at::Tensor view(const at::Tensor& leaf) const { return crop_flip_roll(leaf, draws_); }
  // Moves the images by their gradient and records the iteration's losses: ce float [G], bn double [G], layers double [L].
  void advance(const at::Tensor& gradient, const at::Tensor& ce, const at::Tensor& bn, const at::Tensor& layers);

  // Whether iterations read the counter on the device: only then may one stand for another.
  bool counted() const { return counted_; }
  // Puts images, moments and the counter back to where the segment began.
  void rewind();

  const at::Tensor& x() const { return x_; }
  const at::Tensor& labels() const { return labels_; }    // int64 [G*n]
  const at::Tensor& loss_ce() const { return loss_ce_; }  // double [S, G]
  const at::Tensor& loss_bn() const { return loss_bn_; }
  double mean_loss(const at::Tensor& ce, const at::Tensor& bn) const;  // of one iteration's rows [G]
  double mean_loss(int64_t t) const { return mean_loss(loss_ce_[t], loss_bn_[t]); }
  SynthesizeResult result() const;

 private:
  const SynthesizeSpec& spec_;
  at::Tensor x_, m_, v_, labels_, low_, high_, loss_ce_, loss_bn_, loss_layers_;
  bool counted_;
  SynthesisDraws draws_;
  at::Tensor rates_;  // ops/pixel_adam.h, where counted
};

}  // namespace lpld
