#pragma once
// crop_flip_roll: the augmentation of synthesis: one rectangle, coin and shift per class group, differentiable in x.
//   x        [G*n, C, P, P] float
//   QUIRK(one-view): upstream shares one rectangle, coin and shift among all images of a batch (its own comment doubts it);
//            kept: views of their own would decorrelate the statistics that are matched
//   crop     int32 [G, 4] top, left, height, width in px; resized to P x P (bilinear, align_corners = false)
//   flip     uint8 [G] horizontal, after the resize
//   roll     int32 [G, 2] circular shift in rows and columns, last
//   returns  [G*n, C, P, P]: rows x columns are separable, so it is R[g] x C[g]^T with two taps a row
//   throws   E_INTERNAL on shapes
//   source   methods 0.5 steps 2 and 3
//   tested   test/ops/crop-flip-roll.test.ts against test/reference/crop-flip-roll.ts and PyTorch's resized_crop
#include <ATen/core/Tensor.h>

namespace lpld {
at::Tensor crop_flip_roll(const at::Tensor& x, const at::Tensor& crop, const at::Tensor& flip, const at::Tensor& roll);
}
