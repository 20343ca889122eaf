#pragma once
// conv_norm_act: a convolution with the frozen BatchNorm after it folded into its weights, the residual and the ReLU, in one
// pass over the output: for teachers of whom only the answer is asked. By winograd_conv where that serves and pays.
//   x         [B, C, H, W] float or bfloat16, channels-last, finite: oneDNN's ReLU makes 0 of NaN
//   weight    [O, C, k, k] like x, bias [O] like x: fold()'s
//   residual  [B, O, H', W'] like x, or undefined: added before the activation
//   returns   act(conv(x, weight) + bias + residual) like x, [B, O, H', W']
//   gradient  none: neither x nor weight may require one
//   throws    E_INTERNAL where can_fold() says no
//   source    Jacob et al. 2018, section 3.2 (folding); oneDNN's post-ops through the ops that LibTorch registers for its compiler
//   tested    test/ops/conv-norm-act.test.ts against norm_act behind a convolution
#include <ATen/core/Tensor.h>

#include "ops/winograd_conv.h"

namespace lpld {

struct ConvTaps {
  at::Tensor weight, bias;  // [O, C, k, k]; [O] or undefined; float
  int64_t stride, padding;
};
struct FoldedConv {
  at::Tensor weight, bias;
  int64_t stride, padding;
  WinogradWeights winograd;  // without points where it does not serve
  at::Tensor float_bias;     // for those
};
// scale, shift [O] float of the norm, y = x * scale + shift. What comes out is rounded to `dtype` once: oneDNN's op wants
// weights and bias of one dtype.
FoldedConv fold(const ConvTaps& conv, const at::Tensor& scale, const at::Tensor& shift, at::ScalarType dtype);

// Whether this process can: LibTorch with oneDNN, a CPU that it computes `dtype` on.
bool can_fold(const at::Device& device, at::ScalarType dtype);

struct ConvNormActInput {
  at::Tensor x, residual;
  const FoldedConv& conv;
  bool relu;
};
at::Tensor conv_norm_act(const ConvNormActInput& in);

}  // namespace lpld
