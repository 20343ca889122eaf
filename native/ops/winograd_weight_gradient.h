#pragma once
// winograd_weight_gradient: the gradient of winograd_conv to its weight, by the same filtering turned around: 16
// multiplications where the plain sum takes 36, over tiles of 2 x 2 outputs.
//   x         [B, C, H, W] float or bfloat16, channels-last (else it is made so); C a multiple of 64
//   grad      [B, O, H, W] like x, of the answer; O a multiple of 64
//   returns   float [O, C, 3, 3], channels-last; padding 1, stride 1
//   rounding  relative error of the whole, drawn x and grad, up to 50 images of 64 px: float 7e-7 (direct: 1e-6); bfloat16
//             rounds the points, not the sums: 4e-3 (direct: 2e-3)
//   order     of sums: a matter of shapes and threads alone
//   throws    E_INTERNAL on shapes, and where the CPU has no AVX-512 (for bfloat16: not its products of bfloat16)
//   source    Lavin and Gray 2016, section 4.1
//   tested    test/ops/winograd-conv.test.ts against float64 loops
#include <ATen/core/Tensor.h>

namespace lpld {

at::Tensor winograd_weight_gradient(const at::Tensor& x, const at::Tensor& grad);

}  // namespace lpld
