#include "jobs/similarity.h"

#include "core/aten.h"
#include "ops/class_cosine.h"

namespace lpld {

at::Tensor similarity(Model& model, const ImageStore& store, const SimilaritySpec& spec, const JobContext& job) {
  const auto dtype = spec.execution.precision == Precision::Bf16 ? at::kBFloat16 : at::kFloat;
  apply(spec.execution);
  spec.recipes.check(store, spec.input.size);
  const Pass pass = Pass::answering(model, dtype);
  std::vector<at::Tensor> features, labels;
  for (int64_t step = 0; step < spec.recipes.steps(); ++step) {
    job.step(step, spec.recipes.steps());
    const Batch batch = render_batch(store, spec.recipes, step, spec.input.size, nullptr);
    const at::Tensor x = network_input(batch, spec.recipes, step, spec.input, model.options.device);
    features.push_back(model.features(pass, x).to(at::kFloat).cpu());  // [B, D]
    labels.push_back(batch.labels.cpu());                              // [B]
  }
  if (features.empty()) return at::full({model.options.num_classes}, std::nan(""), at::kDouble);
  return class_cosine(at::cat(features), at::cat(labels), model.options.num_classes);
}

}  // namespace lpld
