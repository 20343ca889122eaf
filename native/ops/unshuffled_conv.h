#pragma once
// unshuffled_conv: a convolution of stride 2 from few channels as one of stride 1 over the image's 2 x 2 blocks laid out as
// channels (space to depth). The gradient to a three-channel image is where oneDNN is slowest: in this form it takes less
// than half the time.
//   x        [B, C, H, W] float, bfloat16 or double, H and W even
//   weight   [O, C, k, k] like x, k odd; bias [O] or undefined
//   padding  (k - 1) / 2 on every side
//   returns  [B, O, H/2, W/2] like x: the sums of conv2d(x, weight, bias, 2, padding) in another order
//   throws   E_INTERNAL unless unshuffles() holds
//   source   the identity  2 y + i - padding = 2 (y + a - left) + b,  i + padding % 2 = 2 a + b
//   tested   test/ops/unshuffled-conv.test.ts against float64 loops, gradient included
//   earned   the stem of ResNet at 224 px with its gradient: 19.3 -> 10.9 ms in bf16, 34.5 -> 19.9 ms in fp32 (10 images)
#include <ATen/core/Tensor.h>

namespace lpld {

bool unshuffles(const at::Tensor& x, const at::Tensor& weight, int64_t stride, int64_t padding);
at::Tensor unshuffled_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding);

}  // namespace lpld
