#include "jobs/collect_stats.h"

#include "core/aten.h"
#include "ops/class_moments.h"

namespace lpld {

namespace {

at::Tensor& entry(TensorMap& state, const std::string& name) {
  const auto found = state.find(name);
  LPLD_CHECK(found != state.end(), Mismatch, "class statistics: expected a tensor ", name, " in the saved state");
  return found->second;
}

// ---- Taps

class StatsTap final : public BnTap {
 public:
  StatsTap(CollectStatsSpec& spec, int64_t classes) : spec_(spec), classes_(classes) {}
  void begin(const at::Tensor& labels) { labels_ = labels; }  // int64 [B]

  int64_t groups(int64_t images) const override { return images; }  // every image by itself
  void see(const BatchNorm& norm, const at::Tensor& mean, const at::Tensor& variance, int64_t elements) override {
    const ImageSums sums = image_sums(mean, variance, elements, norm.running_mean);
    const ClassSums by_class = class_moments(sums, labels_, classes_);
    if (spec_.mode == StatsMode::Exact) {
      entry(spec_.state, norm.name + ".sum").add_(by_class.sum.cpu());
      entry(spec_.state, norm.name + ".sumSquares").add_(by_class.sum_squares.cpu());
      entry(spec_.state, norm.name + ".elements").add_(by_class.images.cpu(), double(elements));
      return;
    }
    const at::Tensor counts = (by_class.images * double(elements)).view({-1, 1});  // [K, 1]
    const at::Tensor present = by_class.images.gt(0).view({-1, 1});                // [K, 1]
    const at::Tensor offset = by_class.sum / counts;                               // [K, C]
    const auto update = [&](const std::string& name, const at::Tensor& value) {
      at::Tensor& row = entry(spec_.state, name);
      row.copy_(at::where(present.cpu(), row * (1 - spec_.momentum) + value.cpu() * spec_.momentum, row));
    };
    update(norm.name + ".mean", offset + norm.running_mean.to(at::kDouble));
    update(norm.name + ".var", at::clamp(by_class.sum_squares / counts - offset * offset, 0));
  }

 private:
  CollectStatsSpec& spec_;
  int64_t classes_;
  at::Tensor labels_;
};

}  // namespace

TensorMap initial_class_stats(const Model& model, StatsMode mode) {
  const int64_t classes = model.options.num_classes;
  const auto wide = at::TensorOptions().dtype(at::kDouble);
  TensorMap state{{"count", at::zeros({classes}, wide)}};
  for (const BatchNorm* norm : model.norms) {
    const std::vector<int64_t> shape{classes, norm->channels};
    if (mode == StatsMode::Exact) {
      state[norm->name + ".sum"] = at::zeros(shape, wide);
      state[norm->name + ".sumSquares"] = at::zeros(shape, wide);
      state[norm->name + ".elements"] = at::zeros({classes}, wide);
    } else {
      state[norm->name + ".mean"] = at::zeros(shape, wide);
      state[norm->name + ".var"] = at::ones(shape, wide);
    }
  }
  return state;
}

// ---- Loop

TensorMap collect_stats(Model& model, const ImageStore& store, CollectStatsSpec spec, const JobContext& job) {
  const auto dtype = spec.execution.precision == Precision::Bf16 ? at::kBFloat16 : at::kFloat;
  apply(spec.execution);
  spec.recipes.check(store, spec.input.size);
  const int64_t classes = model.options.num_classes;
  StatsTap tap(spec, classes);
  const Pass pass = Pass::tapped(model, dtype, tap, /*differentiable=*/false);
  for (int64_t step = 0; step < spec.recipes.steps(); ++step) {
    job.step(step, spec.recipes.steps());
    const Batch batch = render_batch(store, spec.recipes, step, spec.input.size, nullptr);
    tap.begin(batch.labels.to(at::Device(model.options.device)));
    model.forward(pass, network_input(batch, spec.recipes, step, spec.input, model.options.device));
    const at::Tensor images =
        at::zeros({classes}, at::kDouble).index_add(0, batch.labels, at::ones({batch.labels.size(0)}, at::kDouble));
    entry(spec.state, "count").add_(spec.mode == StatsMode::Exact ? images : images.gt(0).to(at::kDouble));
  }
  return spec.state;
}

TensorMap finish_class_stats(const Model& model, StatsMode mode, const TensorMap& given) {
  TensorMap state = given, out;
  for (const BatchNorm* norm : model.norms) {
    at::Tensor mean, variance;  // [K, C] double
    if (mode == StatsMode::Exact) {
      const at::Tensor elements = entry(state, norm->name + ".elements").view({-1, 1});
      const at::Tensor offset = entry(state, norm->name + ".sum") / elements;
      mean = offset + norm->running_mean.cpu().to(at::kDouble);
      variance = at::clamp(entry(state, norm->name + ".sumSquares") / elements - offset * offset, 0);
    } else {
      mean = entry(state, norm->name + ".mean");
      variance = entry(state, norm->name + ".var");
    }
    LPLD_CHECK(at::isfinite(mean).all().item<bool>() && at::isfinite(variance).all().item<bool>(), Data,
               "class statistics of ", norm->name,
               " are not finite: a class was never seen, or the teacher's activations overflow");
    out[norm->name + ".mean"] = mean.to(at::kFloat);
    out[norm->name + ".var"] = variance.to(at::kFloat);
  }
  out["count"] = entry(state, "count").to(at::kLong);
  return out;
}

}  // namespace lpld
