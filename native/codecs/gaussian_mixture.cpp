// The fit of gaussian_mixture.h. The sample is taken as runs of neighbours, each its mean and mean square: some hundred
// numbers carry what a few Gaussians can say of thousands.
#include "codecs/gaussian_mixture.h"

#include <algorithm>
#include <cmath>

namespace lpld {

namespace {
constexpr int64_t kMostRuns = 128;
constexpr int kRounds = 60;
constexpr double kSettled = 1e-5;        // bits a value, that a round still saves
constexpr double kNarrowest = 1.0 / 32;  // of the sample's deviation
constexpr double kBitsOfOne = 24;        // what a Gaussian takes in a basis (coefficient_coder.h)

struct Run {
  double share, mean, square;
};

double square(double x) { return x * x; }

std::vector<Run> runs_of(const double* values, int64_t rows) {
  const int64_t count = std::min(rows, kMostRuns);
  std::vector<Run> runs;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = i * rows / count, to = (i + 1) * rows / count;
    Run run{double(to - from) / double(rows), 0, 0};
    for (int64_t row = from; row < to; ++row) {
      run.mean += values[row] / double(to - from);
      run.square += square(values[row]) / double(to - from);
    }
    runs.push_back(run);
  }
  return runs;
}

// Of the runs with the weights given.
Gaussian gaussian_of(const std::vector<Run>& runs, const std::vector<double>& weight, double narrowest) {
  double share = 0, mean = 0, power = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    const double part = runs[i].share * weight[i];
    share += part;
    mean += part * runs[i].mean;
    power += part * runs[i].square;
  }
  share = std::max(share, 1e-9);
  mean /= share;
  return {share, mean, std::max(narrowest, std::sqrt(std::max(0.0, power / share - square(mean))))};
}

struct Fit {
  Mixture mixture;
  double bits;  // a value, up to what is the same for all mixtures
};

// From weights [parts][runs] that add up to 1 for every run.
Fit maximised(const std::vector<Run>& runs, std::vector<std::vector<double>> weight, double narrowest) {
  Fit fit{Mixture(weight.size()), 0};
  for (int round = 0; round < kRounds; ++round) {
    const double before = fit.bits;
    for (size_t k = 0; k < weight.size(); ++k) fit.mixture[k] = gaussian_of(runs, weight[k], narrowest);
    fit.bits = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
      double sum = 1e-300;
      for (size_t k = 0; k < weight.size(); ++k) {
        const Gaussian& g = fit.mixture[k];
        weight[k][i] = g.share / g.deviation * std::exp(-0.5 * square((runs[i].mean - g.mean) / g.deviation));
        sum += weight[k][i];
      }
      for (auto& part : weight) part[i] /= sum;
      fit.bits -= runs[i].share * std::log2(sum);
    }
    if (round > 0 && before - fit.bits < kSettled) break;
  }
  return fit;
}

// The parts begin as neighbours, or as shells around 0: the better fit of the two.
Fit fit_of(const std::vector<Run>& runs, int parts, double narrowest) {
  std::vector<size_t> order(runs.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  Fit best;
  for (int start = 0; start < 2; ++start) {
    std::vector<std::vector<double>> weight(parts, std::vector<double>(runs.size(), 0));
    for (size_t i = 0; i < order.size(); ++i) weight[i * parts / order.size()][order[i]] = 1;
    Fit fit = maximised(runs, std::move(weight), narrowest);
    if (start == 0 || fit.bits < best.bits) best = std::move(fit);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return std::abs(runs[a].mean) < std::abs(runs[b].mean); });
  }
  return best;
}
}  // namespace

Mixture fit_mixture(const double* values, int64_t rows) {
  const auto runs = runs_of(values, rows);
  const double whole = gaussian_of(runs, std::vector<double>(runs.size(), 1), 0).deviation;
  const double narrowest = std::max(1e-30, kNarrowest * whole);
  Fit best = fit_of(runs, 1, narrowest);
  for (int parts = 2; parts <= kMostGaussians && whole > 0; ++parts) {
    Fit fit = fit_of(runs, parts, narrowest);
    if ((best.bits - fit.bits) * double(rows) < kBitsOfOne) break;
    best = std::move(fit);
  }
  return best.mixture;
}

}  // namespace lpld
