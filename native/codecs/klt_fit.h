#pragma once
// klt_fit: the eigenbasis of a sample of rows and the quantiser that meets a target on it, float64 on the CPU, on the one
// thread that every fit gets (jobs/code.h). Reverse water-filling (Cover and Thomas, 10.3.3): with eigenvalues lambda and
// a noise level theta, components far above theta are kept and get one step sqrt(12 theta), the rest are left at the
// mean; D = (theta * kept + sum of the lambda left out) / K is the mean squared error per class.
#include "codecs/codec.h"

namespace lpld {

constexpr double kMostLogit = 1e12;  // beyond it float32 has no room for what a damaged stream may decode to

enum class KltGoal { Bits, Mse };  // bits per row; mean squared error per class
struct KltTarget {
  KltGoal goal;
  double value;
  double least;  // theta asked for at least: what the numbers that rows are made of hold
};

struct QuantiserFit {
  int64_t kept;
  double theta;       // where nothing is kept, no finer than the error asked for or the largest eigenvalue
  double error;       // mean squared length of what a row loses: theta * kept + the lambda left out
  float step;         // 1 where nothing is kept
  at::Tensor models;  // uint8 [c, 3] (coefficient_coder.h)
};

// The rows, double [N, K]. Throws E_DIVERGED unless there is one and all are within kMostLogit.
const at::Tensor& checked_sample(const at::Tensor& rows);
double power(const at::Tensor& rows);  // mean squared length
// Unit eigenvectors of x^T x / N in order of falling eigenvalue, those of the null space left out: double [M, K].
at::Tensor eigenbasis(const at::Tensor& x);
// Components of x, double [N, K], along orthonormal vectors [M, K]: the first ones are kept, as many as the target asks.
QuantiserFit fit_quantiser(const at::Tensor& x, const at::Tensor& vectors, const KltTarget& target);
// The quantiser of M components at a noise level; the first ones are left out, and those not worth their bits.
QuantiserFit fit_quantiser_at(const at::Tensor& x, const at::Tensor& vectors, double theta, int64_t first);
// Mean square of each component: double [M].
at::Tensor strength(const at::Tensor& x, const at::Tensor& vectors);
// How many of the first components of x are worth their bits at a noise level.
int64_t worth_keeping(const at::Tensor& x, const at::Tensor& vectors, double theta);
// Vectors in signed bytes where that adds at most half a percent to `error` (mean squared length) of what has components of
// this strength along them, else in halves.
at::Tensor stored_vectors(const at::Tensor& vectors, const at::Tensor& strength, double error);

}  // namespace lpld
