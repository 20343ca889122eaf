#include "jobs/code.h"

#include "core/aten.h"

namespace lpld {

namespace {
// What every job here starts with: exact arithmetic, and Recipes whose rows can be followed.
void begin(const CodingSpec& spec, int threads) {
  apply({Precision::Fp32, threads, /*deterministic=*/true});
  spec.recipes.check_rows();
  check_ids(spec.code, spec.recipes);
}

at::Tensor rows_of(const at::Tensor& all, const Recipes& recipes, int64_t step) {
  return all.defined() ? all.narrow(0, recipes.begin(step), recipes.end(step) - recipes.begin(step)) : all;
}
}  // namespace

void check_ids(const CodeSpec& spec, const Recipes& recipes) {
  LPLD_CHECK(spec.record_ids.dim() == 1 && spec.record_ids.size(0) == recipes.steps(), Mismatch, "expected ",
             recipes.steps(), " record ids but received ", spec.record_ids.sizes());
  if (!spec.images.defined()) return;
  LPLD_CHECK(spec.images.sizes() == recipes.index.sizes(), Mismatch, "expected images ", recipes.index.sizes(),
             " but received ", spec.images.sizes());
  LPLD_CHECK(spec.images.numel() == 0 || spec.images.min().item<int32_t>() >= 0, Data,
             "expected images of the set, received a negative one");
}

std::unique_ptr<Codec> open_codec(const CodeSpec& spec, int64_t classes, const at::Device& device) {
  auto codec = make_codec(spec.codec);
  codec->bind(spec.basis, classes, device);
  return codec;
}

RecordContext context_of(const CodeSpec& spec, const Recipes& recipes, int64_t step) {
  const at::Tensor& images = spec.images.defined() ? spec.images : recipes.index;
  const at::Tensor image = rows_of(images, recipes, step).to(at::kLong);               // [n]
  const at::Tensor partner = rows_of(recipes.mix_index, recipes, step).to(at::kLong);  // positions in the batch
  return {spec.seed, spec.record_ids.const_data_ptr<int32_t>()[step], image, image.index_select(0, partner),
          rows_of(recipes.lambda, recipes, step)};
}

Encoded record_of(const EncodedRecords& records, const Recipes& recipes, int64_t step) {
  Encoded record;
  for (const auto& [name, tensor] : records.rows) record.rows[name] = rows_of(tensor, recipes, step);
  if (records.blob.defined()) {
    const int64_t* at = records.blob_offset.const_data_ptr<int64_t>() + step;
    record.blob = records.blob.narrow(0, at[0], at[1] - at[0]);
  }
  return record;
}

void check_records(const EncodedRecords& records, const Recipes& recipes) {
  const int64_t rows = recipes.index.size(0), steps = recipes.steps();
  for (const auto& [name, tensor] : records.rows)
    LPLD_CHECK(tensor.dim() > 0 && tensor.size(0) == rows, Mismatch, "expected ", rows, " label rows in ", name,
               " but received ", tensor.sizes());
  if (!records.blob.defined()) return;
  const at::Tensor& offset = records.blob_offset;
  LPLD_CHECK(records.blob.dim() == 1 && offset.dim() == 1 && offset.size(0) == steps + 1, Mismatch, "expected ",
             steps + 1, " blob offsets but received ", offset.sizes());
  const int64_t* at = offset.const_data_ptr<int64_t>();
  bool rising = at[0] == 0 && at[steps] == records.blob.size(0);
  for (int64_t step = 0; step < steps; ++step) rising = rising && at[step] <= at[step + 1];
  LPLD_CHECK(rising, Mismatch, "expected blob offsets rising from 0 to ", records.blob.size(0));
}

void RecordJoiner::add(Encoded record) {
  for (auto& [name, rows] : record.rows) rows_[name].push_back(std::move(rows));
  if (!record.blob.defined()) return;
  ends_.push_back(ends_.back() + record.blob.size(0));
  blobs_.push_back(std::move(record.blob));
}

EncodedRecords RecordJoiner::join() const {
  EncodedRecords out;
  for (const auto& [name, parts] : rows_) out.rows[name] = at::cat(parts, 0);
  if (blobs_.empty()) return out;
  out.blob = at::cat(blobs_, 0);
  out.blob_offset = at::tensor(ends_, at::kLong);
  return out;
}

TensorMap fit_codec(const CodingSpec& spec, const Head& head, const Answer& sample, const Answer& whole,
                    const JobContext& job) {
  begin(spec, 1);  // sums in one order: a basis and all it encodes are the same bytes whatever the number of threads
  job.step(0, 1);
  FitSample fit{spec.classes, head, sample, {}, whole};
  for (int64_t step = 0; step < spec.recipes.steps(); ++step)
    fit.contexts.push_back(context_of(spec.code, spec.recipes, step));
  TensorMap basis = make_codec(spec.code.codec)->fit(fit);
  job.finished(1, std::nan(""));
  return basis;
}

EncodedRecords encode_labels(const CodingSpec& spec, const Answer& answers, const JobContext& job) {
  begin(spec, spec.threads);
  const auto codec = open_codec(spec.code, spec.classes, at::kCPU);
  RecordJoiner records;
  for (int64_t step = 0; step < spec.recipes.steps(); ++step) {
    job.step(step, spec.recipes.steps());
    records.add(
        codec->encode({rows_of(answers.logits, spec.recipes, step), rows_of(answers.features, spec.recipes, step)},
                      context_of(spec.code, spec.recipes, step)));
  }
  return records.join();
}

at::Tensor decode_labels(const CodingSpec& spec, const EncodedRecords& records, const JobContext& job) {
  begin(spec, spec.threads);
  const auto codec = open_codec(spec.code, spec.classes, at::kCPU);
  std::vector<at::Tensor> parts;
  for (int64_t step = 0; step < spec.recipes.steps(); ++step) {
    job.step(step, spec.recipes.steps());
    parts.push_back(codec->decode(record_of(records, spec.recipes, step), context_of(spec.code, spec.recipes, step)));
  }
  return parts.empty() ? at::empty({0, spec.classes}, at::kFloat) : at::cat(parts, 0);
}

}  // namespace lpld
