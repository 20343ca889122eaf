#include "jobs/train.h"

#include "core/aten.h"
#include "ops/optimizer.h"
#include "ops/soft_kl.h"

namespace lpld {

namespace {

// ---- Loss

// Cross-entropy against the class ids, shared with the mix partner's class by lambda (CutMix, mixup).
at::Tensor hard_loss(const at::Tensor& logits, const Batch& batch, double smoothing) {
  const auto device = logits.device();
  const auto ce = [&](const at::Tensor& labels) {
    return at::cross_entropy_loss(logits, labels.to(device), {}, at::Reduction::None, -100,
                                  smoothing);  // [B]
  };
  // Without mixing every share is 1: one cross-entropy, and the same bits, since l * 1 + l' * 0 = l for finite l'.
  if (batch.own_share.eq(1).all().item<bool>()) return ce(batch.labels).mean();
  const at::Tensor share = batch.own_share.to(device);  // [B]
  return (ce(batch.labels) * share + ce(batch.partner_labels) * (1 - share)).mean();
}

// ---- Optimizer

void optimizer_step(Model& model, const TrainSpec& spec, double lr) {
  const c10::AutoGradMode no_grad(false);
  if (model.moment1.empty()) {
    for (const auto& parameter : model.parameters) {
      model.moment1.push_back(at::zeros_like(parameter.value));
      if (spec.adamw) model.moment2.push_back(at::zeros_like(parameter.value));
    }
  }
  const int64_t step = ++model.optimizer_steps;
  for (size_t i = 0; i < model.parameters.size(); ++i) {
    at::Tensor value = model.parameters[i].value;
    const at::Tensor grad = value.grad();
    if (!grad.defined()) continue;
    const std::string& name = model.parameters[i].name;
    const bool matrix = value.dim() >= 2 && name.find("weight") != std::string::npos;
    const double decay = spec.decay_all || matrix ? spec.weight_decay : 0.0;
    if (spec.adamw)
      adamw_step(value, model.moment1[i], model.moment2[i], grad, step, {lr, spec.beta1, spec.beta2, spec.eps, decay});
    else
      sgd_step(value, model.moment1[i], grad, step, {lr, spec.momentum, decay});
    value.mutable_grad().reset();
  }
}

}  // namespace

// ---- Loop

TrainResult train(Model& model, const ImageStore& store, const TrainSpec& spec, const JobContext& job) {
  const int64_t steps = spec.recipes.steps(), classes = model.options.num_classes;
  const auto dtype = spec.execution.precision == Precision::Bf16 ? at::kBFloat16 : at::kFloat;
  const std::string& device = model.options.device;
  apply(spec.execution);
  spec.recipes.check(store, spec.input.size);
  if (spec.soft) {
    LPLD_CHECK(spec.teacher_temperature > 0, Config, "expected a teacher temperature above 0, received ",
               spec.teacher_temperature);
    check_ids(spec.code, spec.recipes);
    check_records(spec.labels, spec.recipes);
  }
  LPLD_CHECK(model.moment1.empty() || model.moment2.empty() != spec.adamw, Mismatch, "expected the optimizer state of ",
             spec.adamw ? "adamw" : "sgd", " but the model holds another's");
  const auto codec = spec.soft ? open_codec(spec.code, classes, at::Device(device)) : nullptr;
  const Pass pass = Pass::training(model, dtype);
  PixelHash hash;
  at::Tensor losses = at::zeros({steps}, at::TensorOptions().dtype(at::kDouble).device(at::Device(device)));
  at::Tensor agreement = at::zeros_like(losses);
  const double* lr = spec.lr.const_data_ptr<double>();

  for (int64_t step = 0; step < steps; ++step) {
    job.step(step, steps, step > 0 ? losses[step - 1].item<double>() : std::nan(""));
    const Batch batch = render_batch(store, spec.recipes, step, spec.input.size, spec.hash_pixels ? &hash : nullptr);
    const at::Tensor x = network_input(batch, spec.recipes, step, spec.input, device);  // [B, C, P, P]
    at::Tensor loss, target;
    {
      const c10::AutoGradMode grad(true);
      const at::Tensor logits = model.forward(pass, x);  // [B, K]
      if (spec.soft) {
        const at::Tensor teacher =
            codec->decode(record_of(spec.labels, spec.recipes, step), context_of(spec.code, spec.recipes, step));
        const double ratio = spec.temperature / spec.teacher_temperature;
        loss = soft_kl(logits, ratio == 1 ? teacher : teacher * ratio, spec.temperature, spec.loss_scale);
        target = teacher.argmax(1);
      } else {
        loss = hard_loss(logits, batch, spec.smoothing);
        target = batch.labels.to(logits.device());
      }
      loss.backward();
      agreement[step].copy_(logits.detach().argmax(1).eq(target).to(at::kDouble).mean());
    }
    losses[step].copy_(loss.detach());
    optimizer_step(model, spec, lr[step]);
  }
  if (steps > 0) job.finished(steps, losses[steps - 1].item<double>());
  model.set_trainable(false);
  return {losses.cpu(), agreement.cpu(), spec.hash_pixels ? hash.hex() : ""};
}

}  // namespace lpld
