#pragma once
// The CPU body of crop_flip_roll, both ways: what the CUDA kernels compute (kernels/synthesis.cu), sum by sum, but a line at a
// time. Forward: each source row is resized across once, and the resized rows are blended two and two. Backward: the gradient
// of a resized row is gathered onto source columns once and added to the two source rows it was blended from.
//   earned: an iteration of synthesis at 224 px in bf16, docs/results.md; before it two matrix products of [P, P] per plane
//   tested: test/ops/crop-flip-roll.test.ts; equal to the kernels to the last bit, test/kernels.test.ts
#include "kernels/table.h"

namespace lpld {

void crop_forward_lines(const CropArgs& args);  // host memory; on the calling thread's OpenMP team
void crop_backward_lines(const CropArgs& args);

}  // namespace lpld
