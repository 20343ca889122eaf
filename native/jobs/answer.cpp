#include "jobs/answer.h"

#include "core/aten.h"

namespace lpld {

Teachers::Teachers(std::vector<std::shared_ptr<Model>> models, Ensemble ensemble, TeacherMode mode,
                   const Execution& execution)
    : models_(std::move(models)), ensemble_(ensemble) {
  LPLD_CHECK(!models_.empty(), Internal, "expected at least one teacher, received none");
  const auto dtype = execution.precision == Precision::Bf16 ? at::kBFloat16 : at::kFloat;
  for (const auto& model : models_) {
    LPLD_CHECK(model->options.num_classes == classes() && model->options.device == device(), Mismatch,
               "expected teachers of ", classes(), " classes on ", device(), " but received one of ",
               model->options.num_classes, " on ", model->options.device);
    passes_.push_back(mode == TeacherMode::Train ? Pass::with_batch_statistics(*model, dtype)
                                                 : Pass::answering(*model, dtype));
  }
}

Answer Teachers::answer(const at::Tensor& x, bool features) const {
  if (models_.size() == 1) {
    const Model& model = *models_.front();
    const at::Tensor pooled = model.features(passes_.front(), x);  // [B, D]
    return {passes_.front().linear(model.head(), pooled).cpu(), features ? pooled.to(at::kFloat).cpu() : at::Tensor()};
  }
  LPLD_CHECK(!features, Config, "expected one teacher where features are stored, received ", models_.size());
  at::Tensor sum;
  double norms = 0;
  for (size_t i = 0; i < models_.size(); ++i) {
    at::Tensor logits = models_[i]->forward(passes_[i], x);  // [B, K]
    if (ensemble_ == Ensemble::NormMean) {
      const double norm = std::sqrt(logits.mul(logits).sum(at::kDouble).item<double>());
      LPLD_CHECK(norm > 0, Diverged, "expected logits other than zero from teacher ", i + 1);
      norms += norm;
      logits = logits / norm;
    }
    sum = i == 0 ? logits : sum + logits;
  }
  const double count = double(models_.size());
  return {(sum * (ensemble_ == Ensemble::NormMean ? norms / count / count : 1 / count)).cpu(), {}};
}

Head Teachers::head() const {
  if (models_.size() > 1) return {};
  const Linear& head = models_.front()->head();
  return {head.weight.detach().cpu(), head.bias.detach().cpu()};
}

Answer answer(const std::vector<std::shared_ptr<Model>>& models, const ImageStore& store, const AnswerSpec& spec,
              const JobContext& job) {
  apply(spec.execution);
  spec.recipes.check(store, spec.input.size);
  const Teachers teachers(models, spec.ensemble, spec.mode, spec.execution);
  std::vector<at::Tensor> logits, features;
  for (int64_t step = 0; step < spec.recipes.steps(); ++step) {
    job.step(step, spec.recipes.steps());
    const Batch batch = render_batch(store, spec.recipes, step, spec.input.size, nullptr);
    Answer part =
        teachers.answer(network_input(batch, spec.recipes, step, spec.input, teachers.device()), spec.features);
    logits.push_back(part.logits);
    if (spec.features) features.push_back(part.features);
  }
  return {at::cat(logits, 0), spec.features ? at::cat(features, 0) : at::Tensor()};
}

}  // namespace lpld
