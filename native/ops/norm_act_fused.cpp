#include "ops/norm_act_fused.h"

#include "core/aten.h"
#include "core/kernels.h"
#include "ops/norm_act_math.h"
#include "ops/norm_act_rows.h"

namespace lpld {

namespace {

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
      for (int64_t first = 0; first < shape.pixels; first += kNormFlush) {
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
                                   std::min(kNormFlush, shape.pixels - first),
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

NormActGradients backward_cpu(const NormActInput& in, const at::Tensor& y, const at::Tensor& mean,
                              const at::Tensor& grad, const at::Tensor& dmean, const at::Tensor& dvariance) {
  const Shape shape(in.x, in.groups);
  const bool half = in.x.scalar_type() == at::kBFloat16;
  const at::Tensor x = packed(in.x), dy = packed(grad);
  at::Tensor offset = at::empty(mean.sizes(), at::kFloat), slope = at::empty_like(offset);  // [G, C]
  for (int64_t i = 0; i < mean.numel(); ++i) {
    const double by_variance = dvariance.const_data_ptr<double>()[i];
    slope.mutable_data_ptr<float>()[i] = moment_slope(by_variance, shape.elements());
    offset.mutable_data_ptr<float>()[i] =
        moment_offset(dmean.const_data_ptr<double>()[i], by_variance, mean.const_data_ptr<double>()[i],
                      in.center.const_data_ptr<float>()[i % shape.channels], shape.elements());
  }
  NormActGradients out{at::empty_like(x), in.residual.defined() ? at::empty_like(x) : at::Tensor()};
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

// ---- Kernels

bool is_half(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16; }

NormAct forward_kernel(const KernelTable& table, const NormActInput& in) {
  const Shape shape(in.x, in.groups);
  const int64_t groups = std::max<int64_t>(in.groups, 1), rows = shape.images / groups * shape.pixels;
  const at::Tensor x = packed(in.x), residual = in.residual.defined() ? packed(in.residual) : in.residual;
  NormAct out;
  out.y = at::empty_like(x);
  at::Tensor partial;
  if (in.groups > 0) {
    const auto wide = x.options().dtype(at::kDouble);
    partial = at::empty({groups, table.norm_chunks(rows, shape.channels), 2, shape.channels}, wide);
    out.mean = at::empty({groups, shape.channels}, wide);
    out.variance = at::empty({groups, shape.channels}, wide);
  }
  const auto moments = [](const at::Tensor& t) { return t.defined() ? t.mutable_data_ptr<double>() : nullptr; };
  launch("norm_act", table.norm_forward, x,
         NormForwardArgs{x.const_data_ptr(), residual.defined() ? residual.const_data_ptr() : nullptr,
                         out.y.mutable_data_ptr(), in.scale.const_data_ptr<float>(), in.shift.const_data_ptr<float>(),
                         in.center.const_data_ptr<float>(), moments(out.mean), moments(out.variance), moments(partial),
                         groups, rows, shape.channels, is_half(x), in.relu});
  return out;
}

NormActGradients backward_kernel(const KernelTable& table, const NormActInput& in, const at::Tensor& y,
                                 const at::Tensor& mean, const at::Tensor& grad, const at::Tensor& dmean,
                                 const at::Tensor& dvariance) {
  const Shape shape(in.x, in.groups);
  const at::Tensor x = packed(in.x), dy = packed(grad);
  NormActGradients out{at::empty_like(x), in.residual.defined() ? at::empty_like(x) : at::Tensor()};
  launch("norm_act", table.norm_backward, x,
         NormBackwardArgs{dy.const_data_ptr(), x.const_data_ptr(), in.relu ? y.const_data_ptr() : nullptr,
                          out.x.mutable_data_ptr(), out.residual.defined() ? out.residual.mutable_data_ptr() : nullptr,
                          in.scale.const_data_ptr<float>(), in.center.const_data_ptr<float>(),
                          mean.const_data_ptr<double>(), dmean.const_data_ptr<double>(),
                          dvariance.const_data_ptr<double>(), shape.groups, shape.images / shape.groups * shape.pixels,
                          shape.channels, is_half(x), in.relu});
  return out;
}

}  // namespace

bool norm_act_is_fused(const NormActInput& in) {
  const auto dtype = in.x.scalar_type();
  return (in.x.is_cpu() || kernels_for(in.x) != nullptr) && (dtype == at::kFloat || dtype == at::kBFloat16) &&
         (!in.residual.defined() || in.residual.scalar_type() == dtype);
}

NormAct norm_act_forward(const NormActInput& in) {
  const KernelTable* table = kernels_for(in.x);
  return table != nullptr ? forward_kernel(*table, in) : forward_cpu(in);
}

NormActGradients norm_act_backward(const NormActInput& in, const at::Tensor& y, const at::Tensor& mean,
                                   const at::Tensor& dy, const at::Tensor& dmean, const at::Tensor& dvariance) {
  const KernelTable* table = kernels_for(in.x);
  return table != nullptr ? backward_kernel(*table, in, y, mean, dy, dmean, dvariance)
                          : backward_cpu(in, y, mean, dy, dmean, dvariance);
}

}  // namespace lpld
