#pragma once
// The fused bodies of norm_act: the vectorised loops on the CPU and the kernels where they serve x, one pass each way.
// x, residual, y and their gradients are float or bfloat16 alike and come back channels-last.
#include "ops/norm_act.h"

namespace lpld {

// Whether there is a fused body for this device and these dtypes.
bool norm_act_is_fused(const NormActInput& in);
NormAct norm_act_forward(const NormActInput& in);

struct NormActGradients {
  at::Tensor x, residual;  // residual undefined unless in.residual is defined
};
// y, mean: what the forward gave; dy like x; dmean, dvariance [G, C] double. Of in.residual only whether it is there is
// asked.
NormActGradients norm_act_backward(const NormActInput& in, const at::Tensor& y, const at::Tensor& mean,
                                   const at::Tensor& dy, const at::Tensor& dmean, const at::Tensor& dvariance);

}  // namespace lpld
