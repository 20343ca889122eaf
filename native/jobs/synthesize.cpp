#include "jobs/synthesize.h"

#include "core/aten.h"
#include "jobs/queued_loop.h"
#include "jobs/synthesis_segment.h"
#include "ops/bn_match.h"
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
      mean_.push_back(spec.target_mean.narrow(1, first, norm->channels).contiguous().to(device));     // [G, C_l]
      variance_.push_back(spec.target_var.narrow(1, first, norm->channels).contiguous().to(device));  // [G, C_l]
      first += norm->channels;
    }
  }
  void begin() {
    total_ = at::Tensor();
    layers_.assign(mean_.size(), at::Tensor());
  }
  const at::Tensor& total() const { return total_; }                // [G]
  at::Tensor layers() const { return at::stack(layers_).mean(1); }  // [L] means over groups of r_l

  int64_t groups(int64_t) const override { return spec_.groups; }
  void see(const BatchNorm& norm, const at::Tensor& mean, const at::Tensor& variance, int64_t) override {
    const size_t layer = size_t(norm.layer);
    at::Tensor r = bn_match({mean, variance}, mean_[layer], variance_[layer]);  // [G]
    layers_[layer] = r.detach();
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
  SynthesisSegment segment(spec, int64_t(teacher.norms.size()), device);
  MatchTap tap(teacher, spec, device);
  const Pass pass = Pass::tapped(teacher, dtype, tap, /*differentiable=*/true);
  const int64_t steps = spec.lr.numel(), groups = spec.groups;

  const auto iterate = [&] {
    at::Tensor leaf = segment.x().detach();
    at::Tensor ce, gradient;
    {
      const c10::AutoGradMode grad(true);
      leaf.set_requires_grad(true);
      const at::Tensor view = segment.view(leaf);  // [G*n, C, P, P]
      tap.begin();
      const at::Tensor logits = teacher.forward(pass, view);  // [G*n, K]
      ce = at::cross_entropy_loss(logits, segment.labels(), {}, at::Reduction::None).view({groups, -1}).mean(1);  // [G]
      at::Tensor loss = ce + spec.r_bn * tap.total();                                                             // [G]
      if (spec.tv_l2 != 0 || spec.l2_scale != 0) {
        const ImagePrior prior = image_prior(view, groups);
        loss = loss + spec.tv_l2 * prior.tv + spec.l2_scale * prior.l2;
      }
      loss.sum().backward();  // groups are independent: the teacher is frozen in eval mode
      gradient = leaf.grad();
    }
    segment.advance(gradient, ce.detach(), tap.total().detach(), tap.layers());
  };

  std::string graph_refused;
  if (device.is_cuda() && segment.counted()) {
    graph_refused = run_queued(segment, steps, iterate, spec.graph, job);
  } else {
    for (int64_t t = 0; t < steps; ++t) {
      job.step(t, steps, t > 0 ? segment.mean_loss(t - 1) : std::nan(""));
      iterate();
    }
  }
  if (steps > 0) job.finished(steps, segment.mean_loss(steps - 1));
  SynthesizeResult result = segment.result();
  result.graph_refused = std::move(graph_refused);
  return result;
}

}  // namespace lpld
