#pragma once
// crop_flip_roll: the augmentation of synthesis: one rectangle, coin and shift per class group, differentiable in x.
//   x        [G*n, C, P, P] float
//   QUIRK(one-view): upstream shares one rectangle, coin and shift among all images of a batch (its own comment doubts it);
//            kept: views of their own would decorrelate the statistics that are matched
//   crop     int32 [S, G, 4] top, left, height, width in px; resized to P x P (bilinear, align_corners = false)
//   flip     uint8 [S, G] horizontal, after the resize
//   roll     int32 [S, G, 2] circular shift in rows and columns, last
//   step     int64 [1] which of the S draws is used; it may move only after the backward
//   returns  [G*n, C, P, P], channels-last in memory for float: rows x columns are separable, two taps each. float: our
//            kernels, or lines on a CPU (crop_flip_roll_lines.h); double, and CUDA without our kernels: R[g] x C[g]^T
//   throws   E_INTERNAL on shapes and on a crop outside the image
//   source   methods 0.5 steps 2 and 3
//   tested   test/ops/crop-flip-roll.test.ts against test/reference/crop-flip-roll.ts and PyTorch's resized_crop
#include <ATen/core/Tensor.h>

namespace lpld {

// The draws of a segment, checked for images of `size` px and put on a device; step is 0.
struct SynthesisDraws {
  at::Tensor crop, flip, roll, step;
  SynthesisDraws(const at::Tensor& crop, const at::Tensor& flip, const at::Tensor& roll, int64_t size,
                 const at::Device& device);
};

at::Tensor crop_flip_roll(const at::Tensor& x, const SynthesisDraws& draws);

}  // namespace lpld
