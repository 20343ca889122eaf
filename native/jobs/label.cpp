#include "jobs/label.h"

#include "core/aten.h"

namespace lpld {

LabelResult label(const std::vector<std::shared_ptr<Model>>& models, const ImageStore& store, const LabelSpec& spec,
                  const JobContext& job) {
  apply(spec.execution);
  spec.recipes.check(store, spec.input.size);
  check_ids(spec.code, spec.recipes);
  const Teachers teachers(models, spec.ensemble, spec.mode, spec.execution);
  const auto codec = open_codec(spec.code, teachers.classes(), at::kCPU);
  const bool features = codec->needs().features;
  RecordJoiner records;
  PixelHash hash;
  int64_t agreed = 0;
  for (int64_t step = 0; step < spec.recipes.steps(); ++step) {
    job.step(step, spec.recipes.steps());
    const Batch batch = render_batch(store, spec.recipes, step, spec.input.size, spec.hash_pixels ? &hash : nullptr);
    const at::Tensor x = network_input(batch, spec.recipes, step, spec.input, teachers.device());
    const Answer answer = teachers.answer(x, features);
    agreed += answer.logits.argmax(1).eq(batch.labels).sum().item<int64_t>();
    records.add(codec->encode(answer, context_of(spec.code, spec.recipes, step)));
  }
  return {records.join(), double(agreed) / double(std::max<int64_t>(1, spec.recipes.index.size(0))),
          spec.hash_pixels ? hash.hex() : ""};
}

}  // namespace lpld
