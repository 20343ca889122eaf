#pragma once
// The taps of a 3x3 convolution as the points that winograd_conv multiplies: G g G^T for every output and channel.
//   source  Lavin and Gray 2016, section 4.1; the sets of F(2x2, 3x3) and F(4x4, 3x3)
//   tested  test/ops/winograd-conv.test.ts
#include <ATen/core/Tensor.h>

#include "ops/winograd_lanes.h"

namespace lpld {

struct WinogradWeights {
  // [(tile + 2)^2, O / 64, C, 64]; bfloat16 holds two rows of C side by side, as the CPU multiplies them.
  at::Tensor points;
  int64_t outputs() const { return points.size(1) * kWinogradBlock; }
  int64_t channels() const { return points.size(2); }
  int64_t tile() const { return points.size(0) == 16 ? 2 : 4; }
};
// weight [O, C, 3, 3] float, C and O multiples of 64; computed in float and rounded to dtype once. tile 2, or 4 in
// float. Throws E_INTERNAL on anything else.
WinogradWeights winograd_weights(const at::Tensor& weight, at::ScalarType dtype, int64_t tile);
// Of the gradient to x: the same taps turned around, outputs and channels exchanged.
WinogradWeights winograd_gradient_weights(const at::Tensor& weight, at::ScalarType dtype, int64_t tile);

}  // namespace lpld
