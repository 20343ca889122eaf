#include "layer_ops.h"

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include "ops/batch_norm_act.h"
#include "ops/conv_norm_act.h"
#include "ops/norm_act.h"
#include "ops/unshuffled_conv.h"
#include "ops/winograd_conv.h"

namespace lpld {

Napi::Value norm_act_op(
    const Info& info) {  // x, residual or null, spec {scale, shift, center, relu, groups}, grads {y, mean, variance}
  const Fields spec(info[2], "norm spec"), grads(info[3], "norm gradients");
  const bool residual = !info[1].IsNull();
  const at::Tensor x = device_at(info, 0).contiguous(at::MemoryFormat::ChannelsLast);
  Gradient of_x(x), of_residual(residual ? device_at(info, 1).contiguous(at::MemoryFormat::ChannelsLast) : x);
  const NormActInput input{of_x.leaf,
                           residual ? of_residual.leaf : at::Tensor(),
                           on_device(spec.tensor("scale", at::kFloat)),
                           on_device(spec.tensor("shift", at::kFloat)),
                           on_device(spec.tensor("center", at::kFloat)),
                           spec.boolean("relu"),
                           spec.integer("groups")};
  NormAct out;
  {
    const c10::AutoGradMode grad(true);
    out = norm_act(input);
    at::Tensor loss = out.y.to(at::kDouble).mul(on_device(grads.tensor("y")).to(at::kDouble)).sum();
    if (input.groups > 0)
      loss = loss + out.mean.mul(on_device(grads.tensor("mean")).to(at::kDouble)).sum() +
             out.variance.mul(on_device(grads.tensor("variance")).to(at::kDouble)).sum();
    loss.backward();
  }
  auto result = object(info.Env(), {{"y", out.y}, {"dx", of_x.leaf.grad()}});
  if (residual) result.Set("dResidual", from_tensor(info.Env(), of_residual.leaf.grad()));
  if (input.groups > 0) {
    result.Set("mean", from_tensor(info.Env(), out.mean));
    result.Set("variance", from_tensor(info.Env(), out.variance));
  }
  return result;
}

Napi::Value batch_norm_act_op(
    const Info& info) {  // x, residual or null, spec {weight, bias, runningMean, runningVar, momentum, eps, relu}, grad
  const Fields spec(info[2], "norm spec");
  const bool residual = !info[1].IsNull();
  Gradient of_x(device_at(info, 0)), of_residual(residual ? device_at(info, 1) : of_x.leaf),
      of_weight(on_device(spec.tensor("weight", at::kFloat))), of_bias(on_device(spec.tensor("bias", at::kFloat)));
  const at::Tensor mean = on_device(spec.tensor("runningMean", at::kFloat)).clone(),
                   variance = on_device(spec.tensor("runningVar", at::kFloat)).clone();
  const c10::AutoGradMode grad(true);
  const at::Tensor y =
      batch_norm_act({of_x.leaf, residual ? of_residual.leaf : at::Tensor(), of_weight.leaf, of_bias.leaf, mean,
                      variance, spec.number("momentum"), spec.number("eps"), spec.boolean("relu")});
  y.backward(device_at(info, 3));
  auto out = object(info.Env(), {{"y", y},
                                 {"dx", of_x.leaf.grad()},
                                 {"dWeight", of_weight.leaf.grad()},
                                 {"dBias", of_bias.leaf.grad()},
                                 {"runningMean", mean},
                                 {"runningVar", variance}});
  if (residual) out.Set("dResidual", from_tensor(info.Env(), of_residual.leaf.grad()));
  return out;
}

Napi::Value conv_norm_act_op(
    const Info& info) {  // x, residual or null, conv {weight, bias, scale, shift, stride, padding, relu}
  const c10::AutoGradMode no_grad(false);
  const Fields conv(info[2], "conv");
  const at::Tensor x = tensor_at(info, 0).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor residual =
      info[1].IsNull() ? at::Tensor() : tensor_at(info, 1).contiguous(at::MemoryFormat::ChannelsLast);
  const FoldedConv folded = fold({conv.tensor("weight", at::kFloat), conv.tensor("bias", at::kFloat),
                                  conv.integer("stride"), conv.integer("padding")},
                                 conv.tensor("scale", at::kFloat), conv.tensor("shift", at::kFloat), x.scalar_type());
  return from_tensor(info.Env(), conv_norm_act({x, residual, folded, conv.boolean("relu")}));
}

Napi::Value unshuffled_conv_op(const Info& info) {  // x, weight, bias or null, padding, grad
  const c10::AutoGradMode grad(true);
  Gradient gradient(tensor_at(info, 0));
  const at::Tensor y = unshuffled_conv(gradient.leaf, tensor_at(info, 1),
                                       info[2].IsNull() ? at::Tensor() : tensor_at(info, 2), integer_at(info, 3));
  return object(info.Env(), {{"y", y}, {"dx", gradient.of(y.mul(tensor_at(info, 4)))}});
}

Napi::Value winograd_conv_op(const Info& info) {  // x, weight, {tile, bias, residual, relu, learns}, grad or null
  const Fields tail(info[2], "tail");
  const at::Tensor weight = tensor_at(info, 1).detach(), x = tensor_at(info, 0);
  at::Tensor bias = tail.has("bias") ? tail.tensor("bias", at::kFloat).detach() : at::Tensor();
  const WinogradWeights points = winograd_weights(weight, x.scalar_type(), tail.integer("tile"));
  if (info[3].IsNull()) {
    const c10::AutoGradMode no_grad(false);
    const at::Tensor residual = tail.has("residual") ? tail.tensor("residual", x.scalar_type()) : at::Tensor();
    return object(info.Env(), {{"y", winograd_conv(x, points, {bias, residual, tail.boolean("relu")})}});
  }
  const c10::AutoGradMode grad(true);
  Gradient gradient(x);
  const bool learns = tail.boolean("learns");
  weight.set_requires_grad(learns);
  if (bias.defined()) bias.set_requires_grad(learns);
  const WinogradWeights turned =
      learns ? WinogradWeights() : winograd_gradient_weights(weight, x.scalar_type(), points.tile());
  const at::Tensor y = winograd_conv(gradient.leaf, weight, bias, points, turned);
  TensorMap out{{"y", y}, {"dx", gradient.of(y.mul(tensor_at(info, 3)))}};
  if (learns) out["dWeight"] = weight.grad();
  if (learns && bias.defined()) out["dBias"] = bias.grad();
  return from_tensors(info.Env(), out);
}

}  // namespace lpld
