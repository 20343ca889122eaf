#pragma once
// norm_act: a frozen BatchNorm with what follows it and the moments of what came in, in one pass each way.
//   x         [G*n, C, H, W] float or bfloat16, channels-last; input of a BatchNorm layer
//   scale     [C] float, shift [C] float: the layer's running statistics and affine weights folded, y = x * scale + shift
//   center    [C] float, subtracted before summing (the running mean): no cancellation
//   residual  like x, or undefined: added before the activation
//   groups    G: moments over (n, H, W) of each group; 0 for none
//   returns   y = act(x * scale + shift + residual) like x; mean, variance [G, C] double, biased, of x
//   gradient  to x: dy * act' * scale + (dmean + 2 dvariance (x - mean)) / M, M = n*H*W; to residual: dy * act'
//   throws    E_INTERNAL on shapes
//   source    methods 0.4 (analytic gradient of BN matching); DESIGN 6.2
//   tested    test/ops/norm-act.test.ts against test/reference/norm-act.ts
#include <ATen/core/Tensor.h>

namespace lpld {

struct NormAct {
  at::Tensor y, mean, variance;  // mean and variance undefined without groups
};
struct NormActInput {
  at::Tensor x, residual, scale, shift, center;
  bool relu;
  int64_t groups;
};
NormAct norm_act(const NormActInput& input);

}  // namespace lpld
