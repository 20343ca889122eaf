#pragma once
// soft_kl: distillation loss, KL(softmax(teacher/T) || softmax(student/T)), "batchmean", times a scale.
//   student  [B, K] float       teacher [B, K] logits     T > 0     scale: 1, or T^2 where a system multiplies by it
//   returns  scalar; differentiable in student: (p - q) / (T B) * scale
//   throws   E_INTERNAL on shapes or T <= 0
//   source   methods 6.2
//   tested   test/ops/soft-kl.test.ts against test/reference/soft-kl.ts
#include <ATen/core/Tensor.h>

namespace lpld {
at::Tensor soft_kl(const at::Tensor& student, const at::Tensor& teacher, double temperature, double scale);
}
