#include "jobs.h"

#include "job_start.h"
#include "jobs/collect_stats.h"
#include "jobs/evaluate.h"
#include "jobs/similarity.h"
#include "jobs/synthesize.h"
#include "jobs/train.h"

namespace lpld {

namespace {
StatsMode to_mode(const std::string& mode) {
  LPLD_CHECK(mode == "ema" || mode == "exact", Internal, "expected ema or exact for mode, received ", mode);
  return mode == "ema" ? StatsMode::Ema : StatsMode::Exact;
}
}  // namespace

Napi::Value js_train(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Handles handles = handles_of(info);
    const Fields f(info[2], "train spec"), target = f.object("target"), optimizer = f.object("optimizer");
    TrainSpec spec;
    spec.execution = to_execution(f);
    spec.recipes = to_recipes(f.object("recipes"));
    spec.input = to_input(f.object("input"));
    const std::string target_kind = target.string("kind");
    LPLD_CHECK(target_kind == "soft" || target_kind == "hard", Internal,
               "expected soft or hard for target.kind, received ", target_kind);
    spec.soft = target_kind == "soft";
    spec.smoothing = spec.soft ? 0 : target.number("smoothing");
    if (spec.soft) {
      spec.code = to_store_code(target);
      spec.labels = to_records(target);
      spec.temperature = target.number("temperature");
      spec.teacher_temperature = target.number("teacherTemperature");
      spec.loss_scale = target.number("lossScale");
    }
    const std::string kind = optimizer.string("kind"), decay = optimizer.string("decay");
    LPLD_CHECK((kind == "adamw" || kind == "sgd") && (decay == "all" || decay == "matrices"), Internal,
               "expected adamw or sgd, and decay all or matrices, received ", kind, " and ", decay);
    spec.adamw = kind == "adamw";
    spec.lr = optimizer.tensor("lr", at::kDouble);
    spec.momentum = optimizer.number("momentum");
    spec.beta1 = optimizer.number("beta1");
    spec.beta2 = optimizer.number("beta2");
    spec.eps = optimizer.number("eps");
    spec.weight_decay = optimizer.number("weightDecay");
    spec.decay_all = decay == "all";
    spec.hash_pixels = f.boolean("hashPixels");
    LPLD_CHECK(spec.lr.numel() == spec.recipes.steps(), Internal, "expected one learning rate per step, received ",
               spec.lr.numel(), " for ", spec.recipes.steps());
    return start(
        info, handles.lives, info[3],
        [model = handles.model, store = handles.store, spec](const JobContext& job) {
          return train(*model, *store, spec, job);
        },
        [](Napi::Env env, Napi::Object& out, const TrainResult& result) {
          out.Set("loss", from_tensor(env, result.loss));
          out.Set("agreement", from_tensor(env, result.agreement));
          out.Set("pixelHash", result.pixel_hash);
        });
  });
}

Napi::Value js_collect_stats(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Handles handles = handles_of(info);
    const Fields f(info[2], "collectStats spec");
    const CollectStatsSpec spec{to_execution(f),
                                to_recipes(f.object("recipes")),
                                to_input(f.object("input")),
                                to_mode(f.string("mode")),
                                f.number("momentum"),
                                f.tensors("state")};
    return start(
        info, handles.lives, info[3],
        [model = handles.model, store = handles.store, spec](const JobContext& job) {
          return collect_stats(*model, *store, spec, job);
        },
        [](Napi::Env env, Napi::Object& out, const TensorMap& state) { out.Set("state", from_tensors(env, state)); });
  });
}

Napi::Value js_synthesize(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    auto& handle = ModelHandle::of(info[0]);
    const auto model = handle.idle();
    const Fields f(info[1], "synthesize spec"), state = f.object("state");
    SynthesizeSpec spec;
    spec.execution = to_execution(f);
    spec.groups = f.integer("groups");
    spec.images_per_group = f.integer("imagesPerGroup");
    spec.labels = f.tensor("labels", at::kInt);
    spec.x = state.tensor("x", at::kFloat);
    spec.m = state.tensor("m", at::kFloat);
    spec.v = state.tensor("v", at::kFloat);
    spec.step = f.integer("step");
    spec.crop = f.tensor("crop", at::kInt);
    spec.flip = f.tensor("flip", at::kByte);
    spec.roll = f.tensor("roll", at::kInt);
    spec.lr = f.tensor("lr", at::kDouble);
    spec.beta1 = f.number("beta1");
    spec.beta2 = f.number("beta2");
    spec.eps = f.number("eps");
    spec.r_bn = f.number("rBn");
    spec.first_bn_multiplier = f.number("firstBnMultiplier");
    spec.tv_l2 = f.number("tvL2");
    spec.l2_scale = f.number("l2Scale");
    spec.target_mean = f.tensor("targetMean", at::kFloat);
    spec.target_var = f.tensor("targetVar", at::kFloat);
    spec.clamp_low = f.tensor("clampLow", at::kFloat);
    spec.clamp_high = f.tensor("clampHigh", at::kFloat);
    spec.graph = f.boolean("graph");
    LPLD_CHECK(spec.groups > 0 && spec.images_per_group > 0, Internal, "expected groups and imagesPerGroup > 0");
    return start(
        info, {handle.life()}, info[2], [model, spec](const JobContext& job) { return synthesize(*model, spec, job); },
        [](Napi::Env env, Napi::Object& out, const SynthesizeResult& result) {
          auto state = Napi::Object::New(env);
          state.Set("x", from_tensor(env, result.x));
          state.Set("m", from_tensor(env, result.m));
          state.Set("v", from_tensor(env, result.v));
          out.Set("state", state);
          out.Set("lossCe", from_tensor(env, result.loss_ce));
          out.Set("lossBn", from_tensor(env, result.loss_bn));
          out.Set("lossLayers", from_tensor(env, result.loss_layers));
          out.Set("graphRefused", env.Null());
          if (!result.graph_refused.empty()) out.Set("graphRefused", result.graph_refused);
        });
  });
}

Napi::Value js_evaluate(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Handles handles = handles_of(info);
    const Fields f(info[2], "evaluate spec");
    const EvaluateSpec spec{to_execution(f), to_recipes(f.object("recipes")), to_input(f.object("input"))};
    return start(
        info, handles.lives, info[3],
        [model = handles.model, store = handles.store, spec](const JobContext& job) {
          return evaluate(*model, *store, spec, job);
        },
        [](Napi::Env env, Napi::Object& out, const EvaluateResult& result) {
          out.Set("count", double(result.count));
          out.Set("top1", result.top1);
          out.Set("top5", result.top5);
          out.Set("loss", result.loss);
          out.Set("hits", from_tensor(env, result.hits));
          out.Set("stepLoss", from_tensor(env, result.step_loss));
        });
  });
}

Napi::Value js_similarity(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Handles handles = handles_of(info);
    const Fields f(info[2], "similarity spec");
    const SimilaritySpec spec{to_execution(f), to_recipes(f.object("recipes")), to_input(f.object("input"))};
    return start(
        info, handles.lives, info[3],
        [model = handles.model, store = handles.store, spec](const JobContext& job) {
          return similarity(*model, *store, spec, job);
        },
        [](Napi::Env env, Napi::Object& out, const at::Tensor& result) {
          out.Set("similarity", from_tensor(env, result));
        });
  });
}

}  // namespace lpld
