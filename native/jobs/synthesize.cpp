#include "jobs/synthesize.h"

#include "core/aten.h"
#include "ops/bn_match.h"
#include "ops/crop_flip_roll.h"
#include "ops/image_prior.h"

namespace lpld {

namespace {

// ---- Losses

// R[g] = first * r_1[g] + sum over l >= 2 of r_l[g]; r_l compares the batch's statistics with the targets of
// layer l.
class MatchTap final : public BnTap {
 public:
  MatchTap(const Model& teacher, const SynthesizeSpec& spec, const at::Device& device) : spec_(spec) {
    int64_t total = 0;
    for (const BatchNorm* norm : teacher.norms) total += norm->channels;
    const std::vector<int64_t> shape{spec.groups, total};
    LPLD_CHECK(spec.target_mean.sizes() == shape && spec.target_var.sizes() == shape, Mismatch, "expected targets [",
               spec.groups, ", ", total, "] for this teacher but received ", spec.target_mean.sizes(), " and ",
               spec.target_var.sizes());
    int64_t first = 0;
    for (const BatchNorm* norm : teacher.norms) {
      mean_.push_back(spec.target_mean.narrow(1, first, norm->channels).to(device));     // [G, C_l]
      variance_.push_back(spec.target_var.narrow(1, first, norm->channels).to(device));  // [G, C_l]
      first += norm->channels;
    }
  }
  void begin() {
    total_ = at::Tensor();
    layers_.assign(mean_.size(), at::Tensor());
  }
  const at::Tensor& total() const { return total_; }        // [G]
  at::Tensor layers() const { return at::stack(layers_); }  // [L] means over groups of r_l

  int64_t groups(int64_t) const override { return spec_.groups; }
  void see(const BatchNorm& norm, const at::Tensor& mean, const at::Tensor& variance, int64_t) override {
    const size_t layer = size_t(norm.layer);
    at::Tensor r = bn_match({mean, variance}, mean_[layer], variance_[layer]);  // [G]
    layers_[layer] = r.detach().mean();
    if (norm.layer == 0) r = r * spec_.first_bn_multiplier;
    total_ = total_.defined() ? total_ + r : r;
  }

 private:
  const SynthesizeSpec& spec_;
  std::vector<at::Tensor> mean_, variance_, layers_;
  at::Tensor total_;
};

}  // namespace

// ---- Loop

SynthesizeResult synthesize(Model& teacher, const SynthesizeSpec& spec, const JobContext& job) {
  const auto dtype = spec.execution.precision == Precision::Bf16 ? at::kBFloat16 : at::kFloat;
  const at::Device device(teacher.options.device);
  apply(spec.execution);
  teacher.prepare(/*training=*/false, dtype);
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
  MatchTap tap(teacher, spec, device);
  const Pass pass(teacher, /*training=*/false, dtype, &tap);

  at::Tensor x = spec.x.to(device, at::kFloat, false, /*copy=*/true);
  at::Tensor m = spec.m.to(device, at::kFloat, false, true), v = spec.v.to(device, at::kFloat, false, true);
  const at::Tensor labels = spec.labels.to(device, at::kLong);
  const at::Tensor low = spec.clamp_low.to(device), high = spec.clamp_high.to(device);
  const at::Tensor crop = spec.crop.view({steps, groups, 4}), flip = spec.flip.view({steps, groups}),
                   roll = spec.roll.view({steps, groups, 2});
  const double* lr = spec.lr.const_data_ptr<double>();
  at::Tensor loss_ce = at::zeros({steps, groups}, at::TensorOptions().dtype(at::kDouble).device(device));
  at::Tensor loss_bn = at::zeros_like(loss_ce);
  at::Tensor loss_layers = at::zeros({steps, int64_t(teacher.norms.size())}, loss_ce.options());

  const auto mean_loss = [&](int64_t t) { return (loss_ce[t].mean() + spec.r_bn * loss_bn[t].mean()).item<double>(); };

  for (int64_t t = 0; t < steps; ++t) {
    job.step(t, steps, t > 0 ? mean_loss(t - 1) : std::nan(""));
    at::Tensor leaf = x.detach();
    at::Tensor ce, gradient;
    {
      const c10::AutoGradMode grad(true);
      leaf.set_requires_grad(true);
      const at::Tensor view = crop_flip_roll(leaf, crop[t], flip[t], roll[t]);  // [G*n, C, P, P]
      tap.begin();
      const at::Tensor logits = teacher.forward(pass, view);                                            // [G*n, K]
      ce = at::cross_entropy_loss(logits, labels, {}, at::Reduction::None).view({groups, -1}).mean(1);  // [G]
      at::Tensor loss = ce + spec.r_bn * tap.total();                                                   // [G]
      if (spec.tv_l2 != 0 || spec.l2_scale != 0) {
        const ImagePrior prior = image_prior(view, groups);
        loss = loss + spec.tv_l2 * prior.tv + spec.l2_scale * prior.l2;
      }
      loss.sum().backward();  // groups are independent: the teacher is frozen in eval mode
      gradient = leaf.grad();
    }
    loss_ce[t].copy_(ce.detach());
    loss_bn[t].copy_(tap.total().detach());
    loss_layers[t].copy_(tap.layers());
    pixel_adam(x, m, v, gradient, spec.step + t + 1, {lr[t], spec.beta1, spec.beta2, spec.eps}, low, high);
  }
  if (steps > 0) job.finished(steps, mean_loss(steps - 1));
  return {x.cpu(), m.cpu(), v.cpu(), loss_ce.cpu(), loss_bn.cpu(), loss_layers.cpu()};
}

}  // namespace lpld
