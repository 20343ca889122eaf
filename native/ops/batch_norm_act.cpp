#include "ops/batch_norm_act.h"

#include "core/aten.h"
#include "ops/norm_act_rows.h"

namespace lpld {

namespace {

at::Tensor packed(const at::Tensor& t) { return t.defined() ? t.contiguous(at::MemoryFormat::ChannelsLast) : t; }
at::Tensor wide(at::IntArrayRef shape) { return at::empty(shape, at::TensorOptions().dtype(at::kDouble)); }

// Bytes of image i of a channels-last tensor, from pixel p on; null of an undefined one.
char* pixels_of(const at::Tensor& t, int64_t image, int64_t pixel) {
  if (!t.defined()) return nullptr;
  const int64_t at = (image * t.size(2) * t.size(3) + pixel) * t.size(1);
  return static_cast<char*>(t.data_ptr()) + at * int64_t(t.element_size());
}

// f(image, sums [2 C], scratch [2 C]) for every image; their sum, double [2, C]: its order knows nothing of threads.
template <class F>
at::Tensor sums_over_images(const at::Tensor& x, const F& f) {
  const int64_t images = x.size(0), channels = x.size(1);
  const at::Tensor sums = wide({images, 2, channels}).zero_();
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(size_t(2 * channels));
    for (int64_t i = begin; i < end; ++i) f(i, sums.mutable_data_ptr<double>() + i * 2 * channels, scratch.data());
  });
  return sums.sum(0);
}

// Mean and biased variance, double [2, C], summed around the first pixel.
at::Tensor batch_moments(const at::Tensor& x) {
  const int64_t channels = x.size(1), area = x.size(2) * x.size(3);
  const at::Tensor center = x.select(0, 0).select(1, 0).select(1, 0).to(at::kFloat).contiguous();
  const auto rows = x.scalar_type() == at::kBFloat16 ? norm_moment_rows_bf16 : norm_moment_rows_f32;
  at::Tensor moments = sums_over_images(x, [&](int64_t image, double* sums, float* scratch) {
    for (int64_t p = 0; p < area; p += kNormFlush)
      rows({pixels_of(x, image, p), center.const_data_ptr<float>(), sums, sums + channels, scratch,
            std::min(kNormFlush, area - p), channels});
  });
  moments.div_(double(x.size(0) * area));
  const at::Tensor offset = moments.select(0, 0).clone();
  moments.select(0, 0).add_(center);
  moments.select(0, 1).sub_(offset * offset).clamp_min_(0);
  return moments;
}

struct BatchNormActFunction : torch::autograd::Function<BatchNormActFunction> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, const at::Tensor& given, const std::optional<at::Tensor>& added,
                            const at::Tensor& weight, const at::Tensor& bias, const BatchNormActInput& in) {
    const at::Tensor x = packed(given), residual = packed(added.value_or(at::Tensor())), moments = batch_moments(x);
    const at::Tensor mean = moments.select(0, 0), variance = moments.select(0, 1);
    const int64_t channels = x.size(1), area = x.size(2) * x.size(3);
    const double elements = double(x.size(0) * area);
    if (in.running_mean.defined()) {
      in.running_mean.lerp_(mean.to(at::kFloat), in.momentum);
      in.running_var.lerp_((variance * (elements / (elements - 1))).to(at::kFloat), in.momentum);
    }
    const at::Tensor inverse = 1 / at::sqrt(variance + in.eps), scale = weight.to(at::kDouble) * inverse;
    const at::Tensor by = scale.to(at::kFloat), shift = (bias.to(at::kDouble) - mean * scale).to(at::kFloat);
    at::Tensor y = at::empty_like(x);
    const auto rows = x.scalar_type() == at::kBFloat16 ? norm_forward_rows_bf16 : norm_forward_rows_f32;
    at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        rows({pixels_of(x, i, 0), pixels_of(residual, i, 0), pixels_of(y, i, 0), by.const_data_ptr<float>(),
              shift.const_data_ptr<float>(), nullptr, nullptr, nullptr, nullptr, area, channels, in.relu});
    });
    context->save_for_backward({x, weight, in.relu ? y : at::Tensor()});
    context->saved_data["mean"] = mean;
    context->saved_data["inverse"] = inverse;
    context->saved_data["residual"] = residual.defined();
    return y;
  }

  // With g = dy act', n = (x - mean) inverse: dx = weight inverse (g - mean(g) - n mean(g n)), dweight = sum(g n), dbias = sum(g).
  static List backward(Context* context, List grads) {
    List out(5);
    if (!grads[0].defined()) return out;
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &y = saved[2], dy = packed(grads[0].to(x.scalar_type()));
    const at::Tensor mean = context->saved_data["mean"].toTensor(), inverse = context->saved_data["inverse"].toTensor();
    const at::Tensor center = mean.to(at::kFloat),
                     residual = context->saved_data["residual"].toBool() ? at::empty_like(x) : at::Tensor();
    const int64_t channels = x.size(1), area = x.size(2) * x.size(3);
    const double elements = double(x.size(0) * area);
    const bool half = x.scalar_type() == at::kBFloat16;
    const at::Tensor sums = sums_over_images(x, [&](int64_t image, double* sum, float* scratch) {
      for (int64_t p = 0; p < area; p += kNormFlush) {
        const NormGradientSumRows rows{pixels_of(dy, image, p),
                                       pixels_of(x, image, p),
                                       pixels_of(y, image, p),
                                       center.const_data_ptr<float>(),
                                       sum,
                                       sum + channels,
                                       scratch,
                                       std::min(kNormFlush, area - p),
                                       channels};
        half ? norm_gradient_sum_rows_bf16(rows) : norm_gradient_sum_rows_f32(rows);
      }
    });
    const at::Tensor sum = sums.select(0, 0), product = sums.select(0, 1) * inverse;
    const at::Tensor scale = weight.to(at::kDouble) * inverse;
    const at::Tensor by = scale.to(at::kFloat), offset = (scale * sum).div_(-elements).to(at::kFloat),
                     slope = (scale * inverse * product).div_(-elements).to(at::kFloat);
    at::Tensor dx = at::empty_like(x);
    at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const NormBackwardRows rows{pixels_of(dy, i, 0),
                                    pixels_of(x, i, 0),
                                    pixels_of(y, i, 0),
                                    pixels_of(dx, i, 0),
                                    pixels_of(residual, i, 0),
                                    by.const_data_ptr<float>(),
                                    center.const_data_ptr<float>(),
                                    offset.const_data_ptr<float>(),
                                    slope.const_data_ptr<float>(),
                                    area,
                                    channels,
                                    y.defined()};
        half ? norm_backward_rows_bf16(rows) : norm_backward_rows_f32(rows);
      }
    });
    out[0] = dx;
    out[1] = residual;
    out[2] = product.to(at::kFloat);
    out[3] = sum.to(at::kFloat);
    return out;
  }
};

}  // namespace

at::Tensor batch_norm_act_by_aten(const BatchNormActInput& in) {
  const auto rows = in.x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const bool moves = in.running_mean.defined();
  at::Tensor mean = moves ? in.running_mean.to(rows) : at::Tensor(), variance = moves ? in.running_var.to(rows) : mean;
  at::Tensor y = at::batch_norm(in.x, in.weight.to(rows), in.bias.to(rows), mean, variance, /*training=*/true,
                                in.momentum, in.eps, /*cudnn_enabled=*/true);
  if (moves && rows == at::kDouble) {
    in.running_mean.copy_(mean);
    in.running_var.copy_(variance);
  }
  if (in.residual.defined()) y.add_(in.residual);  // in place: the backward of batch_norm needs its input only
  if (in.relu) y.relu_();
  return y;
}

at::Tensor batch_norm_act(const BatchNormActInput& in) {
  const auto row = [&](const at::Tensor& t) {
    return t.sizes() == at::IntArrayRef{in.x.size(1)} && t.scalar_type() == at::kFloat;
  };
  LPLD_CHECK(in.x.dim() == 4 && in.x.numel() > 0 && row(in.weight) && row(in.bias) &&
                 in.running_mean.defined() == in.running_var.defined() &&
                 (!in.running_mean.defined() || (row(in.running_mean) && row(in.running_var))) &&
                 (!in.residual.defined() ||
                  (in.residual.sizes() == in.x.sizes() && in.residual.scalar_type() == in.x.scalar_type())),
             Internal, "batch_norm_act: expected x [B, C, H, W], float rows [C] and residual like x, received ",
             in.x.sizes(), ", ", in.weight.sizes(), ", ", in.bias.sizes());
  LPLD_CHECK(!in.running_mean.defined() || in.x.numel() > in.x.size(1), Config,
             "expected several values of each channel for a BatchNorm that learns but received 1 (one image of 1 x 1 "
             "there)\ntake more images a batch, or larger ones");
  const auto dtype = in.x.scalar_type();
  if (!in.x.is_cpu() || (dtype != at::kFloat && dtype != at::kBFloat16)) return batch_norm_act_by_aten(in);
  return BatchNormActFunction::apply(in.x, in.residual.defined() ? std::optional(in.residual) : std::nullopt, in.weight,
                                     in.bias, in);
}

}  // namespace lpld
