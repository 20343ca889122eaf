#include "jobs/synthesis_segment.h"

#include "core/aten.h"
#include "core/kernels.h"

namespace lpld {

namespace {
const SynthesizeSpec& checked(const SynthesizeSpec& spec) {
  const int64_t steps = spec.lr.numel(), groups = spec.groups;
  using Shape = std::vector<int64_t>;
  LPLD_CHECK(
      spec.x.dim() == 4 && spec.x.size(0) == groups * spec.images_per_group && spec.m.sizes() == spec.x.sizes() &&
          spec.v.sizes() == spec.x.sizes() && spec.labels.sizes() == (Shape{spec.x.size(0)}) && spec.lr.dim() == 1 &&
          spec.crop.sizes() == (Shape{steps, groups, 4}) && spec.flip.sizes() == (Shape{steps, groups}) &&
          spec.roll.sizes() == (Shape{steps, groups, 2}) && spec.clamp_low.sizes() == (Shape{spec.x.size(1)}) &&
          spec.clamp_high.sizes() == (Shape{spec.x.size(1)}),
      Internal, "synthesize: expected x, m, v [G*n, C, P, P], labels [G*n], lr [S], crop [S, G, 4], flip [S, G], ",
      "roll [S, G, 2] and clamp bounds [C] for G = ", groups, ", S = ", steps, ", received x ", spec.x.sizes(),
      ", crop ", spec.crop.sizes());
  return spec;
}

at::Tensor own_copy(const at::Tensor& tensor, const at::Device& device) {
  return tensor.contiguous().to(device, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}
}  // namespace

SynthesisSegment::SynthesisSegment(const SynthesizeSpec& spec, int64_t layers, const at::Device& device)
    : spec_(checked(spec)),
      x_(own_copy(spec.x, device)),
      m_(own_copy(spec.m, device)),
      v_(own_copy(spec.v, device)),
      labels_(spec.labels.to(device, at::kLong)),
      low_(spec.clamp_low.to(device)),
      high_(spec.clamp_high.to(device)),
      loss_ce_(at::zeros({spec.lr.numel(), spec.groups}, at::TensorOptions().dtype(at::kDouble).device(device))),
      loss_bn_(at::zeros_like(loss_ce_)),
      loss_layers_(at::zeros({spec.lr.numel(), layers}, loss_ce_.options())),
      counted_(kernels_for(x_) != nullptr),
      draws_(spec.crop, spec.flip, spec.roll, spec.x.size(2), counted_ ? device : at::Device(at::kCPU)) {
  if (counted_) rates_ = adam_table(spec.lr, spec.step, spec.beta1, spec.beta2).to(device);
}

void SynthesisSegment::advance(const at::Tensor& gradient, const at::Tensor& ce, const at::Tensor& bn,
                               const at::Tensor& layers) {
  if (counted_) {
    pixel_adam(x_, m_, v_, gradient, rates_, draws_.step, {0, spec_.beta1, spec_.beta2, spec_.eps}, low_, high_);
    const at::Tensor from_ce = ce.contiguous(), from_bn = bn.contiguous(), from_layers = layers.contiguous();
    launch("record", kernels_for(x_)->record, x_,
           RecordArgs{from_ce.const_data_ptr<float>(), from_bn.const_data_ptr<double>(),
                      from_layers.const_data_ptr<double>(), loss_ce_.mutable_data_ptr<double>(),
                      loss_bn_.mutable_data_ptr<double>(), loss_layers_.mutable_data_ptr<double>(),
                      draws_.step.mutable_data_ptr<int64_t>(), spec_.groups, loss_layers_.size(1)});
    return;
  }
  int64_t& t = *draws_.step.mutable_data_ptr<int64_t>();
  loss_ce_[t].copy_(ce);
  loss_bn_[t].copy_(bn);
  loss_layers_[t].copy_(layers);
  pixel_adam(x_, m_, v_, gradient, spec_.step + t + 1,
             {spec_.lr.const_data_ptr<double>()[t], spec_.beta1, spec_.beta2, spec_.eps}, low_, high_);
  ++t;
}

void SynthesisSegment::rewind() {
  x_.copy_(spec_.x);
  m_.copy_(spec_.m);
  v_.copy_(spec_.v);
  draws_.step.zero_();
}

double SynthesisSegment::mean_loss(const at::Tensor& ce, const at::Tensor& bn) const {
  return (ce.mean() + spec_.r_bn * bn.mean()).item<double>();
}

SynthesizeResult SynthesisSegment::result() const {
  return {x_.cpu(), m_.cpu(), v_.cpu(), loss_ce_.cpu(), loss_bn_.cpu(), loss_layers_.cpu(), {}};
}

}  // namespace lpld
