#pragma once
// klt_fit: the eigenbasis of a sample of rows and the quantiser that meets a target on it, float64 on the CPU, on the one
// thread that every fit gets (jobs/code.h). Reverse water-filling (Cover and Thomas, 10.3.3): with eigenvalues lambda and
// a noise level theta, components far above theta are kept and get one step sqrt(12 theta), the rest are left at the
// mean; D = (theta * kept + sum of the lambda left out) / K is the mean squared error per class.
#include "codecs/codec.h"

namespace lpld {

constexpr double kMostLogit = 1e12;  // beyond it float32 has no room for what a damaged stream may decode to

enum class KltGoal { Bits, Mse, Noise };  // bits per row; mean squared error per class; theta itself
struct KltTarget {
  KltGoal goal;
  double value;
  double least;  // theta asked for at least: where rows are differences of logits, what float32 holds of those
};

// rows: double [N, K]. The tensors of Klt (klt.h), and theta. Rows that differ by no more than float32 rounds their mean
// keep nothing; where nothing is kept, theta is no finer than the error asked for or the largest eigenvalue.
struct KltFit {
  TensorMap tensors;
  double theta;
};
KltFit fit_klt(const at::Tensor& rows, const KltTarget& target);

}  // namespace lpld
