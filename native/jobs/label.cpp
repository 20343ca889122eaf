#include "jobs/label.h"

#include "core/aten.h"

namespace lpld {

LabelResult label(Model& teacher, const ImageStore& store, const LabelSpec& spec, const JobContext& job) {
  const auto dtype = spec.execution.precision == Precision::Bf16 ? at::kBFloat16 : at::kFloat;
  apply(spec.execution);
  spec.recipes.check(store, spec.input.size);
  const auto codec = make_codec(spec.codec);
  teacher.prepare(/*training=*/false, dtype);
  const Pass pass(teacher, /*training=*/false, dtype, nullptr);
  PixelHash hash;
  std::map<std::string, std::vector<at::Tensor>> parts;
  int64_t agreed = 0;
  for (int64_t step = 0; step < spec.recipes.steps(); ++step) {
    job.step(step, spec.recipes.steps());
    const Batch batch = render_batch(store, spec.recipes, step, spec.input.size, spec.hash_pixels ? &hash : nullptr);
    const at::Tensor x = network_input(batch, spec.recipes, step, spec.input, teacher.options.device);
    const at::Tensor logits = teacher.forward(pass, x).cpu();  // [B, K]
    agreed += logits.argmax(1).eq(batch.labels).sum().item<int64_t>();
    for (auto& [name, rows] : codec->encode({logits}, spec.basis)) parts[name].push_back(rows);
  }
  LabelResult result;
  for (auto& [name, rows] : parts) result.tensors[name] = at::cat(rows, 0);
  result.agreement = double(agreed) / double(std::max<int64_t>(1, spec.recipes.index.size(0)));
  result.pixel_hash = spec.hash_pixels ? hash.hex() : "";
  return result;
}

}  // namespace lpld
