#pragma once
// batch_norm_act: a BatchNorm that learns, with what follows it: act(norm(x) + residual), normalised with the statistics of the
// batch. On the CPU two passes each way over numbers that lie channels-last; elsewhere ATen's own ops, one after the other.
//   x             [B, C, H, W] float or bfloat16 (or double, by ATen)
//   residual      like x, or undefined: added before the activation
//   weight, bias  [C] float
//   running       mean and variance [C] float, moved by `momentum` (the variance unbiased); or both undefined
//   returns       like x
//   gradient      to x, residual, weight and bias; not twice
//   order         of sums: images one after the other, whatever the number of threads
//   throws        E_INTERNAL on shapes
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
at::Tensor batch_norm_act_by_aten(
    const BatchNormActInput& input);  // unchecked: the body of other devices, for the bench

}  // namespace lpld
