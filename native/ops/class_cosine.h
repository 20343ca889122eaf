#pragma once
// class_cosine: how alike the rows of each class are: the mean cosine over all pairs of different rows of a class, in
// double on the CPU. With unit rows u_i it is (|sum u_i|^2 - sum |u_i|^2) / (n (n - 1)); a row of zeros has cosine 0.
// Used for within-class similarity (LPLD, Xiao and He 2024, on teacher features). Test: test/ops/class-cosine.test.ts.
#include <ATen/core/Tensor.h>

namespace lpld {

// features float [n, D], labels int32 or int64 [n] in [0, K); returns double [K], NaN where a class has fewer than two.
// Throws E_INTERNAL for other shapes, E_DATA for labels outside [0, K), E_DIVERGED for features that are not finite.
at::Tensor class_cosine(const at::Tensor& features, const at::Tensor& labels, int64_t classes);

}  // namespace lpld
