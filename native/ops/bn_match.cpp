#include "ops/bn_match.h"

#include "core/aten.h"
#include "core/kernels.h"

namespace lpld {

namespace {

MatchArgs arguments(const at::Tensor& mean, const at::Tensor& variance, const at::Tensor& target_mean,
                    const at::Tensor& target_variance, const at::Tensor& norms) {
  return {mean.const_data_ptr<double>(),
          variance.const_data_ptr<double>(),
          target_mean.const_data_ptr<float>(),
          target_variance.const_data_ptr<float>(),
          nullptr,
          norms.mutable_data_ptr<double>(),
          nullptr,
          nullptr,
          nullptr,
          mean.size(0),
          mean.size(1)};
}

// The kernels as one autograd node: one launch each way for what ATen does in a dozen.
struct MatchFunction : torch::autograd::Function<MatchFunction> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, const at::Tensor& mean, const at::Tensor& variance,
                            const at::Tensor& target_mean, const at::Tensor& target_variance) {
    at::Tensor distance = at::empty({mean.size(0)}, mean.options()),
               norms = at::empty({mean.size(0), 2}, mean.options());
    MatchArgs args = arguments(mean, variance, target_mean, target_variance, norms);
    args.distance = distance.mutable_data_ptr<double>();
    launch("bn_match", kernels_for(mean)->match_forward, mean, args);
    context->save_for_backward({mean, variance, target_mean, target_variance, norms});
    return distance;
  }
  static List backward(Context* context, List grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor grad = grads[0].contiguous();
    at::Tensor dmean = at::empty_like(saved[0]), dvariance = at::empty_like(saved[1]);
    MatchArgs args = arguments(saved[0], saved[1], saved[2], saved[3], saved[4]);
    args.ddistance = grad.const_data_ptr<double>();
    args.dmean = dmean.mutable_data_ptr<double>();
    args.dvariance = dvariance.mutable_data_ptr<double>();
    launch("bn_match", kernels_for(grad)->match_backward, grad, args);
    return {dmean, dvariance, {}, {}};
  }
};

}  // namespace

GroupMoments group_moments(const at::Tensor& x, int64_t groups) {
  LPLD_CHECK(x.dim() == 4 && groups > 0 && x.size(0) % groups == 0, Internal,
             "bn_match: expected x [G*n, C, H, W] with G = ", groups, ", received ", x.sizes());
  const at::Tensor wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  const at::Tensor grouped = wide.unflatten(0, {groups, x.size(0) / groups});  // [G, n, C, H, W]
  auto [variance, mean] = at::var_mean(grouped, at::IntArrayRef{1, 3, 4}, /*unbiased=*/false);
  return {mean, variance};
}

at::Tensor bn_match(const GroupMoments& moments, const at::Tensor& mean, const at::Tensor& variance) {
  LPLD_CHECK(moments.mean.sizes() == mean.sizes() && mean.sizes() == variance.sizes(), Internal,
             "bn_match: expected targets ", moments.mean.sizes(), ", received ", mean.sizes(), " and ",
             variance.sizes());
  const auto dtype = moments.mean.scalar_type();
  if (mean.scalar_type() == at::kFloat && kernels_for(mean) != nullptr) {
    const auto wide = [](const at::Tensor& moment) { return moment.to(at::kDouble).contiguous(); };
    return MatchFunction::apply(wide(moments.mean), wide(moments.variance), mean.contiguous(), variance.contiguous())
        .to(dtype);
  }
  return at::linalg_vector_norm(moments.variance - variance, 2, at::IntArrayRef{1}) +
         at::linalg_vector_norm(moments.mean - mean, 2, at::IntArrayRef{1});
}

}  // namespace lpld
