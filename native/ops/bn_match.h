#pragma once
// bn_match: distance of each class group's BatchNorm statistics to its targets.
//   x        [G*n, C, H, W] float, input of a BatchNorm layer
//   mean     [G, C] target mean         variance  [G, C] target variance (biased)
//   returns  [G]: |mean(x) - mean|_2 + |var(x) - variance|_2, two unsquared norms over C, biased variance over (n, H, W)
//   gradient to x only: (g_mean + 2 g_var (x - mean(x))) / M with M = n*H*W; a zero norm has gradient zero
//   QUIRK(bn-norms): the norms are not squared, and the biased variance meets a running variance that was built unbiased;
//            both kept, they are the published loss
//   throws   E_INTERNAL on rank or sizes
//   source   SRe2L sec. 3, LPLD class-statistics hook; methods 0.4
//   tested   test/ops/bn-match.test.ts against test/reference/bn-match.ts
#include <ATen/core/Tensor.h>

namespace lpld {
struct GroupMoments {
  at::Tensor mean, variance;  // [G, C] float (double for double input), biased
};
GroupMoments group_moments(const at::Tensor& x, int64_t groups);
at::Tensor bn_match(const GroupMoments& moments, const at::Tensor& mean, const at::Tensor& variance);
}  // namespace lpld
