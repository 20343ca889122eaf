#pragma once
// winograd_conv: a 3x3 convolution of stride 1 by Winograd's minimal filtering, on a CPU. F(2x2, 3x3) takes 4 multiplications
// an output where the plain sum takes 9, F(4x4, 3x3) takes 2.25; the rest are additions.
//   x         [B, C, H, W] float or bfloat16, channels-last (else it is made so)
//   weights   winograd_weights() of [O, C, 3, 3], C and O multiples of 64
//   tail      bias [O] float or undefined; residual like the answer or undefined, added before the ReLU
//   returns   act(conv2d(x, weight, bias, stride 1, padding 1) + residual) like x, [B, O, H, W]
//   rounding  relative error of the whole, random weights: float F(2x2) 2e-7 to 4e-7 (oneDNN's direct 4e-7 to 1e-6), F(4x4)
//             2e-6; bfloat16 F(2x2) 4e-3 (direct 2e-3: points and weights are both rounded). F(4x4) in bfloat16 would be
//             2.6e-2 and is refused. NaN and infinities leave nothing finite near them. An answer depends on nothing
//             outside its own image.
//   gradient  by the overload that takes a weight: to x and to the weight by Winograd's filtering too; not twice
//   throws    E_INTERNAL on shapes, and where LibTorch cannot multiply blocks of the dtype on this CPU; the gradient to the
//             weight as winograd_weight_gradient()
//   source    Winograd 1980; Lavin and Gray 2016, section 4.1
//   tested    test/ops/winograd-conv.test.ts against float64 loops, gradient included
//   earned    bench kernels: 1.4 to 1.9x of oneDNN's direct convolutions, forward and gradient to x, on an EPYC without AMX
#include <ATen/core/Tensor.h>

#include "ops/winograd_weights.h"

namespace lpld {

// Whether this process can, the shape of the weight allows it, and it is the faster way on this CPU.
bool winograd_serves(const at::Tensor& weight, int64_t stride, int64_t padding, at::ScalarType dtype);
// Whether images of this size are worth it: tiles reach over the edge, and what lies there is multiplied in vain.
bool winograd_pays(const at::Tensor& x, int64_t tile);

struct WinogradTail {
  at::Tensor bias, residual;
  bool relu = false;
};
at::Tensor winograd_conv(const at::Tensor& x, const WinogradWeights& weights, const WinogradTail& tail);
// With gradients: to x, and to weight [O, C, 3, 3] and bias [O] float where they want one. `points` are winograd_weights()
// of this weight; `gradient` its winograd_gradient_weights(), or without points: then each backward makes them.
at::Tensor winograd_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const WinogradWeights& points, const WinogradWeights& gradient);

}  // namespace lpld
