#include "ops/norm_act.h"

#include "core/aten.h"
#include "ops/bn_match.h"
#include "ops/norm_act_rows.h"

namespace lpld {

namespace {

constexpr int64_t kFlush = 64;  // pixels summed in float before they are added in double

struct Shape {
  int64_t images, channels, pixels, groups;
  explicit Shape(const at::Tensor& x, int64_t groups)
      : images(x.size(0)), channels(x.size(1)), pixels(x.size(2) * x.size(3)), groups(groups) {}
  int64_t group_of(int64_t image) const { return image * groups / images; }
  double elements() const { return double(images / groups * pixels); }
};

at::Tensor packed(const at::Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

NormAct forward_cpu(const NormActInput& in) {
  const Shape shape(in.x, in.groups);
  const bool half = in.x.scalar_type() == at::kBFloat16;
  const at::Tensor x = packed(in.x), residual = in.residual.defined() ? packed(in.residual) : in.residual;
  NormAct out;
  out.y = at::empty_like(x);
  const int64_t stride = shape.pixels * shape.channels, bytes = int64_t(x.element_size());
  at::Tensor sums;  // double [N, 2, C]
  if (in.groups > 0) sums = at::zeros({shape.images, 2, shape.channels}, at::kDouble);
  const auto at_image = [&](const at::Tensor& t, int64_t i) {
    return static_cast<char*>(t.data_ptr()) + i * stride * bytes;
  };
  at::parallel_for(0, shape.images, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(size_t(2 * shape.channels));
    for (int64_t i = begin; i < end; ++i) {
      double* sum = in.groups > 0 ? sums.mutable_data_ptr<double>() + i * 2 * shape.channels : nullptr;
      for (int64_t first = 0; first < shape.pixels; first += kFlush) {
        const int64_t skip = first * shape.channels * bytes;
        const NormForwardRows rows{at_image(x, i) + skip,
                                   residual.defined() ? at_image(residual, i) + skip : nullptr,
                                   at_image(out.y, i) + skip,
                                   in.scale.const_data_ptr<float>(),
                                   in.shift.const_data_ptr<float>(),
                                   in.center.const_data_ptr<float>(),
                                   sum,
                                   sum != nullptr ? sum + shape.channels : nullptr,
                                   scratch.data(),
                                   std::min(kFlush, shape.pixels - first),
                                   shape.channels,
                                   in.relu};
        half ? norm_forward_rows_bf16(rows) : norm_forward_rows_f32(rows);
      }
    }
  });
  if (in.groups > 0) {
    const at::Tensor grouped = sums.view({in.groups, -1, 2, shape.channels}).sum(1) / shape.elements();  // [G, 2, C]
    const at::Tensor offset = grouped.select(1, 0);
    out.variance = at::clamp(grouped.select(1, 1) - offset * offset, 0);
    out.mean = offset + in.center.to(at::kDouble);
  }
  return out;
}

struct Gradients {
  at::Tensor x, residual;
};

// offset, slope: float [G, C], the moments' gradient as an affine function of x.
Gradients backward_cpu(const NormActInput& in, const at::Tensor& y, const at::Tensor& grad, const at::Tensor& offset,
                       const at::Tensor& slope) {
  const Shape shape(in.x, in.groups);
  const bool half = in.x.scalar_type() == at::kBFloat16;
  const at::Tensor x = packed(in.x), dy = packed(grad);
  Gradients out{at::empty_like(x), in.residual.defined() ? at::empty_like(x) : at::Tensor()};
  const int64_t stride = shape.pixels * shape.channels, bytes = int64_t(x.element_size());
  const auto at_image = [&](const at::Tensor& t, int64_t i) {
    return static_cast<char*>(t.data_ptr()) + i * stride * bytes;
  };
  at::parallel_for(0, shape.images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = shape.group_of(i) * shape.channels;
      const NormBackwardRows rows{at_image(dy, i),
                                  at_image(x, i),
                                  in.relu ? at_image(y, i) : nullptr,
                                  at_image(out.x, i),
                                  out.residual.defined() ? at_image(out.residual, i) : nullptr,
                                  in.scale.const_data_ptr<float>(),
                                  in.center.const_data_ptr<float>(),
                                  offset.const_data_ptr<float>() + row,
                                  slope.const_data_ptr<float>() + row,
                                  shape.pixels,
                                  shape.channels,
                                  in.relu};
      half ? norm_backward_rows_bf16(rows) : norm_backward_rows_f32(rows);
    }
  });
  return out;
}

// The fused body as one autograd node with the outputs y, mean and variance.
struct NormActFunction : torch::autograd::Function<NormActFunction> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static List forward(Context* context, const at::Tensor& x, const std::optional<at::Tensor>& residual,
                      const at::Tensor& scale, const at::Tensor& shift, const at::Tensor& center, bool relu,
                      int64_t groups) {
    const NormAct out = forward_cpu({x, residual.value_or(at::Tensor()), scale, shift, center, relu, groups});
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
    const double elements = Shape(x, groups).elements();
    const auto or_zero = [&](const at::Tensor& grad) { return grad.defined() ? grad : at::zeros_like(mean); };
    const at::Tensor slope = or_zero(grads[2]) * (2.0 / elements);                     // [G, C] double
    const at::Tensor offset = or_zero(grads[1]) / elements - slope * (mean - center);  // [G, C] double
    const at::Tensor dy = grads[0].defined() ? grads[0] : at::zeros_like(x);
    const Gradients out =
        backward_cpu(in, y, dy, offset.to(at::kFloat).contiguous(), slope.to(at::kFloat).contiguous());
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
  const auto dtype = in.x.scalar_type();
  const bool fused = in.x.device().is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16) &&
                     (!in.residual.defined() || in.residual.scalar_type() == dtype);
  if (!fused) return composed(in);
  if (!c10::GradMode::is_enabled()) return forward_cpu(in);
  if (in.groups == 0) return composed(in);
  const auto out = NormActFunction::apply(in.x, in.residual.defined() ? std::optional(in.residual) : std::nullopt,
                                          in.scale, in.shift, in.center, in.relu, in.groups);
  return {out[0], out[1], out[2]};
}

}  // namespace lpld
