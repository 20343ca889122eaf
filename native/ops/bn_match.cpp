#include "ops/bn_match.h"

#include "core/aten.h"

namespace lpld {

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
  return at::linalg_vector_norm(moments.variance - variance, 2, at::IntArrayRef{1}) +
         at::linalg_vector_norm(moments.mean - mean, 2, at::IntArrayRef{1});
}

}  // namespace lpld
