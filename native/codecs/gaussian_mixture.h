#pragma once
// gaussian_mixture: what is known of a coefficient, as a few Gaussians. Answers to views of few classes are in clusters, so
// their strongest components are lopsided or have two humps; what a prediction leaves is peaked. Fitted to a sample by
// expectation and maximisation (Dempster, Laird and Rubin 1977), float64, the same result for the same sample.
#include <cstdint>
#include <vector>

namespace lpld {

struct Gaussian {
  double share, mean, deviation;  // shares of a mixture add up to 1
};
using Mixture = std::vector<Gaussian>;

// rows > 0 rising values -> at most kMostGaussians of them, as many as save enough bits.
constexpr int kMostGaussians = 3;
Mixture fit_mixture(const double* values, int64_t rows);

}  // namespace lpld
