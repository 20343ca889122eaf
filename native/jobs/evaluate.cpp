#include "jobs/evaluate.h"

#include "core/aten.h"

namespace lpld {

EvaluateResult evaluate(Model& model, const ImageStore& store, const EvaluateSpec& spec, const JobContext& job) {
  const auto dtype = spec.execution.precision == Precision::Bf16 ? at::kBFloat16 : at::kFloat;
  apply(spec.execution);
  spec.recipes.check(store, spec.input.size);
  const Pass pass = Pass::answering(model, dtype);
  const int64_t total = spec.recipes.index.size(0), shown = std::min<int64_t>(5, model.options.num_classes);
  const int64_t steps = spec.recipes.steps();
  int64_t first = 0, within = 0;
  double loss = 0;
  const at::Tensor hits_of = at::empty({steps, 2}, at::kInt), loss_of = at::empty({steps}, at::kDouble);
  for (int64_t step = 0; step < steps; ++step) {
    job.step(step, steps);
    const Batch batch = render_batch(store, spec.recipes, step, spec.input.size, nullptr);
    const at::Tensor x = network_input(batch, spec.recipes, step, spec.input, model.options.device);
    const at::Tensor logits = model.forward(pass, x).cpu();                                          // [B, K]
    const at::Tensor hits = std::get<1>(at::topk(logits, shown, 1)).eq(batch.labels.view({-1, 1}));  // [B, 5]
    const auto top = hits.narrow(1, 0, 1).sum().item<int64_t>(), shown_hits = hits.sum().item<int64_t>();
    const double sum = at::cross_entropy_loss(logits, batch.labels, {}, at::Reduction::Sum).item<double>();
    hits_of.mutable_data_ptr<int32_t>()[2 * step] = int32_t(top);
    hits_of.mutable_data_ptr<int32_t>()[2 * step + 1] = int32_t(shown_hits);
    loss_of.mutable_data_ptr<double>()[step] = sum;
    first += top;
    within += shown_hits;
    loss += sum;
  }
  const double count = double(std::max<int64_t>(1, total));
  return {total, double(first) / count, double(within) / count, loss / count, hits_of, loss_of};
}

}  // namespace lpld
