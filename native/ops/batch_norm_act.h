#pragma once
// batch_norm_act: BatchNorm with the statistics of the batch, and what follows it: act(norm(x) + residual). On the CPU two
// passes each way over numbers that lie channels-last; elsewhere ATen's own ops, one after the other.
//   x             [B, C, H, W] float or bfloat16 (or double, by ATen)
//   residual      like x, or undefined: added before the activation
//   weight, bias  [C] float
//   running       mean and variance [C] float, moved in place by `momentum` (the variance unbiased); or both undefined
//   returns       like x
//   gradient      to x, residual, weight and bias; not twice
//   rounding      moments are summed around the first pixel of the first image: a mean far from zero costs nothing, a first
//                 pixel far from the rest does (float, 100 times the spread away: the variance is 7e-5 off, ATen's 3e-6)
//   order         of sums: a matter of shapes alone, whatever the number of threads
//   throws        E_INTERNAL on shapes; E_CONFIG where running numbers would move by a batch of one value per channel, which
//                 has no variance
//   source        Ioffe and Szegedy 2015, algorithm 1 and its gradient
//   tested        test/ops/batch-norm-act.test.ts against float64 loops
#include <ATen/core/Tensor.h>

namespace lpld {

struct BatchNormActInput {
  at::Tensor x, residual, weight, bias, running_mean, running_var;
  double momentum, eps;
  bool relu;
};
at::Tensor batch_norm_act(const BatchNormActInput& input);
// The body of other devices, for the bench; checks nothing.
at::Tensor batch_norm_act_by_aten(const BatchNormActInput& input);

}  // namespace lpld
