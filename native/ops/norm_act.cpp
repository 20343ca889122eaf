#include "ops/norm_act.h"

#include "core/aten.h"
#include "ops/bn_match.h"
#include "ops/norm_act_fused.h"

namespace lpld {

namespace {

// The fused body as one autograd node with the outputs y, mean and variance.
struct NormActFunction : torch::autograd::Function<NormActFunction> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static List forward(Context* context, const at::Tensor& x, const std::optional<at::Tensor>& residual,
                      const at::Tensor& scale, const at::Tensor& shift, const at::Tensor& center, bool relu,
                      int64_t groups) {
    const NormAct out = norm_act_forward({x, residual.value_or(at::Tensor()), scale, shift, center, relu, groups});
    context->save_for_backward({x, scale, center, out.y, out.mean});
    context->saved_data["relu"] = relu;
    context->saved_data["groups"] = groups;
    context->saved_data["residual"] = residual.has_value();
    return {out.y, out.mean, out.variance};
  }

  static List backward(Context* context, List grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &scale = saved[1], &center = saved[2], &y = saved[3], &mean = saved[4];
    const int64_t groups = context->saved_data["groups"].toInt();
    NormActInput in{x, at::Tensor(), scale, scale, center, context->saved_data["relu"].toBool(), groups};
    if (context->saved_data["residual"].toBool()) in.residual = x;  // only whether it is there is asked
    const auto or_zero = [](const at::Tensor& grad, const at::Tensor& like) {
      return grad.defined() ? grad.contiguous() : at::zeros_like(like);
    };
    const at::Tensor dy = grads[0].defined() ? grads[0] : at::zeros_like(x);
    const NormActGradients out = norm_act_backward(in, y, mean, dy, or_zero(grads[1], mean), or_zero(grads[2], mean));
    return {out.x, out.residual, {}, {}, {}, {}, {}};
  }
};

// The same from ATen's own ops: other devices and dtypes.
NormAct composed(const NormActInput& in) {
  const auto wide = in.x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto row = [&](const at::Tensor& v) { return v.to(wide).view({1, -1, 1, 1}); };
  const at::Tensor x = in.x.to(wide);
  NormAct out;
  out.y = x * row(in.scale) + row(in.shift);
  if (in.residual.defined()) out.y = out.y + in.residual;
  if (in.relu) out.y = at::relu(out.y);
  out.y = out.y.to(in.x.scalar_type());
  if (in.groups > 0) {
    const GroupMoments moments = group_moments(in.x, in.groups);
    out.mean = moments.mean.to(at::kDouble);
    out.variance = moments.variance.to(at::kDouble);
  }
  return out;
}

}  // namespace

NormAct norm_act(const NormActInput& in) {
  LPLD_CHECK(in.x.dim() == 4 && in.scale.sizes() == at::IntArrayRef{in.x.size(1)} &&
                 in.shift.sizes() == in.scale.sizes() && in.center.sizes() == in.scale.sizes() &&
                 (!in.residual.defined() || in.residual.sizes() == in.x.sizes()) && in.groups >= 0 &&
                 (in.groups == 0 || in.x.size(0) % in.groups == 0),
             Internal, "norm_act: expected x [G*n, C, H, W], scale, shift, center [C] and residual like x, received ",
             in.x.sizes(), ", ", in.scale.sizes(), ", G = ", in.groups);
  if (!norm_act_is_fused(in)) return composed(in);
  if (!c10::GradMode::is_enabled()) return norm_act_forward(in);
  if (in.groups == 0) return composed(in);
  const auto out = NormActFunction::apply(in.x, in.residual.defined() ? std::optional(in.residual) : std::nullopt,
                                          in.scale, in.shift, in.center, in.relu, in.groups);
  return {out[0], out[1], out[2]};
}

}  // namespace lpld
