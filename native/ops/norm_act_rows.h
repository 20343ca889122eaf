#pragma once
// The inner loops of norm_act and batch_norm_act over `pixels` consecutive positions of C channels each (channels-last), for
// float and for bfloat16 held as its 16 bits. Plain C++, compiled for several instruction sets and chosen at load time.
#include <cstdint>

namespace lpld {

constexpr int64_t kNormFlush = 64;  // most pixels of one call that sums: they are added in float, calls in double

// y = act(x * scale + shift + residual); sums[c] += x - center, squares[c] += (x - center)^2 where sums is not null.
struct NormForwardRows {
  const void *x, *residual;  // residual may be null
  void* y;
  const float *scale, *shift, *center;
  double *sums, *squares;  // [C] or null
  float* scratch;          // [2 C], used where sums is not null
  int64_t pixels, channels;
  bool relu;
};
void norm_forward_rows_f32(const NormForwardRows& rows);
void norm_forward_rows_bf16(const NormForwardRows& rows);

// dx = dy * act' * scale + offset + slope * (x - center); dresidual = dy * act', written where it is not null.
struct NormBackwardRows {
  const void *dy, *x, *y;  // y is read for act' where relu
  void *dx, *dresidual;
  const float *scale, *center;  // [C]
  const float *offset, *slope;  // [C] the gradient of the moments
  int64_t pixels, channels;
  bool relu;
};
void norm_backward_rows_f32(const NormBackwardRows& rows);
void norm_backward_rows_bf16(const NormBackwardRows& rows);

// sums[c] += x - center, squares[c] += (x - center)^2.
struct NormMomentRows {
  const void* x;
  const float* center;     // [C]
  double *sums, *squares;  // [C]
  float* scratch;          // [2 C]
  int64_t pixels, channels;
};
void norm_moment_rows_f32(const NormMomentRows& rows);
void norm_moment_rows_bf16(const NormMomentRows& rows);

// With g = dy * act': sums[c] += g, products[c] += g * (x - center).
struct NormGradientSumRows {
  const void *dy, *x, *y;   // y is null without ReLU
  const float* center;      // [C]
  double *sums, *products;  // [C]
  float* scratch;           // [2 C]
  int64_t pixels, channels;
};
void norm_gradient_sum_rows_f32(const NormGradientSumRows& rows);
void norm_gradient_sum_rows_bf16(const NormGradientSumRows& rows);

}  // namespace lpld
