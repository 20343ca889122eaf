// The door to single ops for tests, benches and the small pixel work of the stages: synchronous, on the
// caller's thread. Gradients are taken here with autograd where an op is differentiable, so that tests see
// what the jobs use.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "async_job.h"
#include "codecs/codec.h"
#include "core/philox.h"
#include "handles.h"
#include "jobs.h"
#include "jobs/collect_stats.h"
#include "layer_ops.h"
#include "op_arguments.h"
#include "ops/bn_match.h"
#include "ops/class_cosine.h"
#include "ops/class_moments.h"
#include "ops/crop_flip_roll.h"
#include "ops/image_prior.h"
#include "ops/label_metrics.h"
#include "ops/norm_act.h"
#include "ops/optimizer.h"
#include "ops/pixel_adam.h"
#include "ops/pixels.h"
#include "ops/resized_crop.h"
#include "ops/soft_kl.h"

namespace lpld {

namespace {

using Body = Napi::Value (*)(const Info&);

// n u32 words of an array.
std::vector<uint32_t> words_at(const Info& info, size_t i, uint32_t n) {
  LPLD_CHECK(info[i].IsArray() && info[i].As<Napi::Array>().Length() == n, Internal, "expected ", n,
             " words for argument ", i + 1);
  std::vector<uint32_t> out;
  for (uint32_t k = 0; k < n; ++k) {
    const Napi::Value word = info[i].As<Napi::Array>().Get(k);
    LPLD_CHECK(word.IsNumber(), Internal, "expected numbers for argument ", i + 1);
    out.push_back(word.As<Napi::Number>().Uint32Value());
  }
  return out;
}

Napi::Value philox(const Info& info) {  // counter, key
  const auto c = words_at(info, 0, 4), k = words_at(info, 1, 2);
  const auto block = Philox::block({c[0], c[1], c[2], c[3]}, k[0], k[1]);
  auto out = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < 4; ++i) out.Set(i, double(block[i]));
  return out;
}

Napi::Value normals(const Info& info) {  // seed, purpose, object, view, count
  LPLD_CHECK(info[0].IsBigInt(), Internal, "expected a bigint for argument 1");
  bool lossless = false;
  const uint64_t seed = info[0].As<Napi::BigInt>().Uint64Value(&lossless);
  const int64_t count = integer_at(info, 4);
  LPLD_CHECK(lossless && count >= 0 && count < (int64_t{1} << 34), Internal,
             "expected a seed in [0, 2^64) and a count in [0, 2^34), received count ", count);
  at::Tensor out = at::empty({count}, at::TensorOptions().dtype(at::kFloat));
  Philox{seed, uint32_t(integer_at(info, 1)), uint32_t(integer_at(info, 2)), uint32_t(integer_at(info, 3))}.normals(
      out.mutable_data_ptr<float>(), out.numel());
  return from_tensor(info.Env(), out);
}

Napi::Value render_batch_op(const Info& info) {  // store, recipes, size
  const auto store = StoreHandle::of(info[0]).idle();
  const Recipes recipes = to_recipes(Fields(info[1], "recipes"));
  const int64_t size = integer_at(info, 2), rows = recipes.index.size(0);
  recipes.check(*store, size);
  at::Tensor out = at::empty({rows, size, size, store->channels()}, at::TensorOptions().dtype(at::kByte));
  for (int64_t step = 0; step < recipes.steps(); ++step)
    out.narrow(0, recipes.begin(step), recipes.end(step) - recipes.begin(step))
        .copy_(render_batch(*store, recipes, step, size, nullptr).pixels);
  return from_tensor(info.Env(), out.permute({0, 3, 1, 2}));
}

Napi::Value resize_bilinear(const Info& info) {  // image U8 [H, W, C], height, width
  const at::Tensor image = tensor_at(info, 0);
  LPLD_CHECK(image.dim() == 3 && image.scalar_type() == at::kByte, Internal,
             "expected an image U8 [H, W, C], received ", image.sizes());
  const int64_t height = integer_at(info, 1), width = integer_at(info, 2);
  LPLD_CHECK(height > 0 && width > 0 && height <= 65535 && width <= 65535 && image.numel() > 0, Internal,
             "expected a size of 1 to 65535 px, received ", height, "x", width);
  at::Tensor out = at::empty({height, width, image.size(2)}, at::TensorOptions().dtype(at::kByte));
  Resizer().resized_crop(image.const_data_ptr<uint8_t>(), image.size(0), image.size(1), image.size(2),
                         {0, 0, int32_t(image.size(0)), int32_t(image.size(1))}, false, height, width,
                         out.mutable_data_ptr<uint8_t>());
  return from_tensor(info.Env(), out);
}

Napi::Value crop_flip_roll_op(const Info& info) {  // x, groups, crop, flip, roll, grad
  const c10::AutoGradMode grad(true);
  Gradient gradient(device_at(info, 0));
  const at::Tensor crop = tensor_at(info, 2), flip = tensor_at(info, 3), roll = tensor_at(info, 4);
  LPLD_CHECK(crop.dim() == 2 && crop.size(0) == integer_at(info, 1), Internal,
             "expected crop [G, 4] for G = ", integer_at(info, 1), ", received ", crop.sizes());
  LPLD_CHECK(gradient.leaf.dim() == 4, Internal, "expected x [G*n, C, P, P], received ", gradient.leaf.sizes());
  const SynthesisDraws draws(crop.unsqueeze(0), flip.unsqueeze(0), roll.unsqueeze(0), gradient.leaf.size(2), g_device);
  const at::Tensor y = crop_flip_roll(gradient.leaf, draws);
  return object(info.Env(), {{"y", y}, {"dx", gradient.of(y.mul(device_at(info, 5)))}});
}

Napi::Value bn_match_op(const Info& info) {  // x, groups, mean, variance
  const c10::AutoGradMode grad(true);
  Gradient gradient(device_at(info, 0));
  const at::Tensor loss =
      bn_match(group_moments(gradient.leaf, integer_at(info, 1)), device_at(info, 2), device_at(info, 3));
  return object(info.Env(), {{"loss", loss}, {"dx", gradient.of(loss)}});
}

Napi::Value class_cosine_op(const Info& info) {  // features, labels, numClasses
  const c10::AutoGradMode no_grad(false);
  return from_tensor(info.Env(), class_cosine(tensor_at(info, 0), tensor_at(info, 1), integer_at(info, 2)));
}

Napi::Value class_moments_op(const Info& info) {  // x, labels, numClasses, shift
  const c10::AutoGradMode no_grad(false);
  const at::Tensor x = tensor_at(info, 0), shift = tensor_at(info, 3);
  LPLD_CHECK(x.dim() == 4 && x.numel() > 0 && shift.dim() == 1 && shift.size(0) == x.size(1), Internal,
             "expected x [B, C, H, W] and shift [C], received ", x.sizes(), " and ", shift.sizes());
  const at::Tensor center = shift.to(at::kFloat), one = at::zeros_like(center).add_(1);
  const NormAct seen = norm_act({x, at::Tensor(), one, at::zeros_like(one), center, false, x.size(0)});
  const ImageSums images = image_sums(seen.mean, seen.variance, x.size(2) * x.size(3), shift);
  const ClassSums sums = class_moments(images, tensor_at(info, 1).to(at::kLong), integer_at(info, 2));
  return object(info.Env(), {{"sum", sums.sum}, {"sumSquares", sums.sum_squares}, {"count", sums.images}});
}

Napi::Value soft_kl_op(const Info& info) {  // student, teacher, temperature, lossScale
  const c10::AutoGradMode grad(true);
  Gradient gradient(tensor_at(info, 0));
  const at::Tensor loss = soft_kl(gradient.leaf, tensor_at(info, 1), number_at(info, 2), number_at(info, 3));
  return object(info.Env(), {{"loss", loss}, {"dStudent", gradient.of(loss)}});
}

Napi::Value label_metrics_op(const Info& info) {  // logits, labels or null, offset
  const c10::AutoGradMode no_grad(false);
  const LabelMetrics of =
      label_metrics(tensor_at(info, 0), info[1].IsNull() ? at::Tensor() : tensor_at(info, 1), tensor_at(info, 2));
  auto out = object(info.Env(), {{"confidence", of.confidence}, {"diff", of.diff}});
  for (const auto& [name, tensor] : {std::pair{"diffSigned", of.diff_signed}, std::pair{"correct", of.correct}})
    out.Set(name, tensor.defined() ? Napi::Value(from_tensor(info.Env(), tensor)) : info.Env().Null());
  return out;
}

Napi::Value pixel_adam_op(const Info& info) {  // x, m, v, grad, step, lr, beta1, beta2, eps, low, high
  const c10::AutoGradMode no_grad(false);
  const at::Tensor x = device_at(info, 0), m = device_at(info, 1), v = device_at(info, 2);
  pixel_adam(x, m, v, device_at(info, 3), integer_at(info, 4),
             {number_at(info, 5), number_at(info, 6), number_at(info, 7), number_at(info, 8)}, device_at(info, 9),
             device_at(info, 10));
  return object(info.Env(), {{"x", x}, {"m", m}, {"v", v}});
}

Napi::Value image_prior_op(const Info& info) {  // x, groups
  const c10::AutoGradMode grad(true);
  Gradient gradient(tensor_at(info, 0));
  const ImagePrior prior = image_prior(gradient.leaf, integer_at(info, 1));
  return object(info.Env(),
                {{"tv", prior.tv}, {"l2", prior.l2}, {"dTv", gradient.of(prior.tv)}, {"dL2", gradient.of(prior.l2)}});
}

Napi::Value optimizer_step_op(const Info& info) {  // kind, parameter, state, grad, options
  const c10::AutoGradMode no_grad(false);
  const std::string kind = string_at(info, 0);
  const at::Tensor parameter = tensor_at(info, 1), grad = tensor_at(info, 3);
  TensorMap state = to_tensors(info[2], "state");
  const Fields o(info[4], "options");
  for (const char* name : {"m", "v"})
    if (state.count(name) == 0) state[name] = at::zeros_like(parameter);
  if (kind == "adamw")
    adamw_step(parameter, state["m"], state["v"], grad, o.integer("step"),
               {o.number("lr"), o.number("beta1"), o.number("beta2"), o.number("eps"), o.number("weightDecay")});
  else
    sgd_step(parameter, state["m"], grad, o.integer("step"),
             {o.number("lr"), o.number("momentum"), o.number("weightDecay")});
  auto out = object(info.Env(), {{"parameter", parameter}});
  out.Set("state", from_tensors(info.Env(), state));
  return out;
}

Napi::Value to_pixels_op(const Info& info) {
  return from_tensor(info.Env(), to_pixels(tensor_at(info, 0), tensor_at(info, 1), tensor_at(info, 2)));
}
Napi::Value normalize_table_op(const Info& info) {
  return from_tensor(info.Env(), normalize_table(tensor_at(info, 0), tensor_at(info, 1)));
}

StatsMode mode_at(const Info& info, size_t i) {
  return string_at(info, i) == "ema" ? StatsMode::Ema : StatsMode::Exact;
}
Napi::Value initial_class_stats_op(const Info& info) {  // model, mode
  return from_tensors(info.Env(), initial_class_stats(*ModelHandle::of(info[0]).idle(), mode_at(info, 1)));
}
Napi::Value finish_class_stats_op(const Info& info) {  // model, mode, state
  return from_tensors(
      info.Env(), finish_class_stats(*ModelHandle::of(info[0]).idle(), mode_at(info, 1), to_tensors(info[2], "state")));
}

Napi::Value forward_op(const Info& info) {  // model, x, precision
  const c10::AutoGradMode no_grad(false);
  const auto model = ModelHandle::of(info[0]).idle();
  const auto dtype = parse_precision(string_at(info, 2)) == Precision::Bf16 ? at::kBFloat16 : at::kFloat;
  LPLD_CHECK(at::isfinite(tensor_at(info, 1)).all().item<bool>(), Internal, "expected finite pixels");
  return from_tensor(info.Env(), model->forward(Pass::answering(*model, dtype),
                                                tensor_at(info, 1).to(at::Device(model->options.device))));
}

struct Entry {
  const char* name;
  Body body;
};
const Entry kOps[] = {
    {"philox", philox},
    {"normals", normals},
    {"renderBatch", render_batch_op},
    {"resizeBilinear", resize_bilinear},
    {"cropFlipRoll", crop_flip_roll_op},
    {"bnMatch", bn_match_op},
    {"normAct", norm_act_op},
    {"batchNormAct", batch_norm_act_op},
    {"convNormAct", conv_norm_act_op},
    {"unshuffledConv", unshuffled_conv_op},
    {"winogradConv", winograd_conv_op},
    {"classMoments", class_moments_op},
    {"classCosine", class_cosine_op},
    {"softKl", soft_kl_op},
    {"labelMetrics", label_metrics_op},
    {"pixelAdam", pixel_adam_op},
    {"imagePrior", image_prior_op},
    {"optimizerStep", optimizer_step_op},
    {"toPixels", to_pixels_op},
    {"normalizeTable", normalize_table_op},
    {"initialClassStats", initial_class_stats_op},
    {"finishClassStats", finish_class_stats_op},
    {"forward", forward_op},
};

}  // namespace

namespace {
// The table with its tensors on `device`; the ops that have kernels of their own and batchNormAct go there, the others stay.
Napi::Object ops_on(Napi::Env env, const at::Device& device) {
  auto out = Napi::Object::New(env);
  for (const Entry& entry : kOps) {
    const Body body = entry.body;
    const auto call = [body, device](const Info& info) {
      return guard(info.Env(), [&] {
        struct Restore {
          ~Restore() { g_device = at::Device(at::kCPU); }
        } restore;
        g_device = device;
        return body(info);
      });
    };
    out.Set(entry.name, Napi::Function::New(env, call, entry.name));
  }
  return out;
}
}  // namespace

Napi::Object define_ops(Napi::Env env) { return ops_on(env, at::Device(at::kCPU)); }

Napi::Value ops_on_device(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const std::string device = string_at(info, 0);
    check_device(device);
    return ops_on(info.Env(), at::Device(device));
  });
}

}  // namespace lpld
