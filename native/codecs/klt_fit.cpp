// The fit of klt_fit.h: covariance or Gram matrix, whichever is smaller, its eigenvectors, then a bisection over theta with
// the tables' own count of bits. Dropping a component makes bits and error jump, so theta is settled in two steps.
#include "codecs/klt_fit.h"

#include "codecs/coefficient_tables.h"
#include "core/aten.h"

namespace lpld {

namespace {
constexpr int64_t kMaxSide = 2048;    // of an eigenproblem: where K is larger, so many rows of the sample are used
constexpr int64_t kTableRows = 4096;  // rows the tables are fitted to
constexpr double kNull = 1e-10;       // of the largest eigenvalue: what float32 logits cannot tell from 0
constexpr double kRounding = 1e-14;   // of the power of the rows: more than what rounding their mean to float32 leaves
// lambda / theta from which a component is kept. An ideal coder's 1 is not a dithered quantiser's: its first bits buy less.
// For Gaussian components and spectra like 1 / j^1.3, 2.5 leaves 5 to 14 % less error than 1 at the same bits.
constexpr double kWorthKeeping = 2.5;
constexpr int kBisections = 48;

// Mean squared length of the rows.
double power(const at::Tensor& rows) {
  const double norm = at::linalg_vector_norm(rows).item<double>();
  return norm * norm / double(rows.size(0));
}

// At most `limit` of the rows, evenly spread.
at::Tensor thinned(const at::Tensor& rows, int64_t limit) {
  const int64_t every = (rows.size(0) + limit - 1) / limit;
  return every <= 1 ? rows : rows.slice(0, 0, rows.size(0), every);
}

// An eigenvector's sign is free: its largest entry is made positive, the first of those that are equal but for rounding.
void fix_signs(at::Tensor& vectors) {
  for (int64_t j = 0; j < vectors.size(0); ++j) {
    const at::Tensor vector = vectors[j];
    const double* v = vector.const_data_ptr<double>();
    const double largest = vector.abs().max().item<double>() * (1 - 1e-6);
    int64_t k = 0;
    while (std::abs(v[k]) < largest) ++k;
    if (v[k] < 0) vectors[j].neg_();
  }
}

// Unit eigenvectors of x^T x / N in order of falling eigenvalue, those of the null space left out: [M, K]. x: [N, K].
at::Tensor eigenbasis(const at::Tensor& all) {
  const at::Tensor x = all.size(1) > kMaxSide ? thinned(all, kMaxSide) : all;
  const bool gram = x.size(0) < x.size(1);  // the smaller of x x^T and x^T x: the same eigenvalues
  const at::Tensor square = (gram ? x.mm(x.t()) : x.t().mm(x)) / double(x.size(0));
  auto [values, columns] = at::linalg_eigh(square, "L");
  const at::Tensor falling = values.flip(0).contiguous();
  const double* lambda = falling.const_data_ptr<double>();
  int64_t rank = 0;
  while (rank < falling.size(0) && lambda[rank] > 0 && lambda[rank] > kNull * lambda[0]) ++rank;
  at::Tensor vectors = columns.flip(1).narrow(1, 0, rank).t().contiguous();  // [M, side]
  if (gram) vectors = vectors.mm(x);
  vectors = vectors / at::linalg_vector_norm(vectors, 2, at::IntArrayRef{1}, /*keepdim=*/true);
  vectors = vectors.contiguous();
  fix_signs(vectors);
  return vectors;
}

// The sample in its eigenbasis, and what a choice of theta and of the components kept would cost.
class Plan {
 public:
  Plan(const at::Tensor& coefficients, double energy, int64_t classes)  // [N, M]; mean squared length of a row
      : energy_(energy), classes_(double(classes)) {
    const at::Tensor square = (coefficients * coefficients).mean(0).contiguous();
    lambda_.assign(square.const_data_ptr<double>(), square.const_data_ptr<double>() + square.size(0));
    sorted_ = std::get<0>(thinned(coefficients, kTableRows).t().contiguous().sort(/*dim=*/1));
    sorted_ = sorted_.contiguous();
  }

  int64_t kept(double theta) const {
    int64_t m = 0;
    while (m < int64_t(lambda_.size()) && lambda_[m] > kWorthKeeping * theta) ++m;
    return m;
  }
  double left_out(int64_t m) const {
    double sum = energy_;
    for (int64_t j = 0; j < m; ++j) sum -= lambda_[j];
    return std::max(0.0, sum);
  }
  double mse(double theta, int64_t m) const { return (theta * double(m) + left_out(m)) / classes_; }
  double bits(double theta, int64_t m) const {
    double sum = 0;
    for (int64_t j = 0; j < m; ++j)
      sum += expected_bits(sorted_.const_data_ptr<double>() + j * sorted_.size(1), sorted_.size(1),
                           1 / std::sqrt(12 * theta));
    return sum;
  }
  at::Tensor in_steps(double step, int64_t m) const { return (sorted_.narrow(0, 0, m) / step).contiguous(); }
  double largest() const { return lambda_.empty() ? 0 : *std::max_element(lambda_.begin(), lambda_.end()); }
  double classes() const { return classes_; }

 private:
  std::vector<double> lambda_;
  at::Tensor sorted_;  // [M, N]
  double energy_, classes_;
};

// Where in [low, high] `fits` changes, from yes to no (then the last yes) or from no to yes (then the first).
double bisect(double low, double high, bool from, const std::function<bool(double)>& fits) {
  for (int i = 0; i < kBisections; ++i) {
    const double middle = std::sqrt(low * high);
    (fits(middle) == from ? low : high) = middle;
  }
  return from ? low : high;
}

struct Choice {
  double theta;
  int64_t kept;
};

// The components first; with them fixed theta meets the target exactly (error) or to the last bisection (bits). Where no
// component is kept any theta would do: one no finer than what was asked for. `rounding`: of the rows' mean, as theta.
Choice choose(const Plan& plan, const KltTarget& target, double rounding) {
  const double high = plan.largest(), low = std::max(target.least, kNull * high);
  const double nothing = std::max({low, high, rounding, target.goal == KltGoal::Mse ? target.value : 0.0});
  if (std::max(low, rounding) >= high) return {nothing, 0};
  if (target.goal == KltGoal::Noise) {
    const double theta = std::max(low, target.value);
    return {theta, plan.kept(theta)};
  }
  if (target.goal == KltGoal::Mse) {
    const auto fits = [&](double theta) { return plan.mse(theta, plan.kept(theta)) <= target.value; };
    const int64_t m = plan.kept(bisect(low, high, true, fits));
    if (m == 0) return {nothing, 0};
    const double theta = (target.value * plan.classes() - plan.left_out(m)) / double(m);
    return {std::max(low, theta), m};
  }
  const auto fits = [&](double theta) { return plan.bits(theta, plan.kept(theta)) <= target.value; };
  const int64_t m = plan.kept(bisect(low, high, false, fits));
  if (m == 0) return {nothing, 0};
  return {bisect(low, high, false, [&](double theta) { return plan.bits(theta, m) <= target.value; }), m};
}
}  // namespace

KltFit fit_klt(const at::Tensor& rows, const KltTarget& target) {
  const int64_t classes = rows.size(1);
  LPLD_CHECK(rows.abs().le(kMostLogit).all().item<bool>() && rows.size(0) > 0, Diverged,
             "expected logits within 1e12 of at least one row to fit a basis to");
  const at::Tensor mean = rows.mean(0).to(at::kFloat);
  const at::Tensor x = rows - mean.to(at::kDouble);
  const at::Tensor vectors = eigenbasis(x);
  const Plan plan(x.mm(vectors.t()), power(x), classes);
  const Choice choice = choose(plan, target, kRounding * power(rows));
  const float step = choice.kept > 0 ? float(std::sqrt(12 * choice.theta)) : 1.0f;
  const TableTensors tables = fit_tables(plan.in_steps(step, choice.kept));
  return {{{"mean", mean},
           {"vectors", vectors.narrow(0, 0, choice.kept).to(at::kHalf)},
           {"step", at::tensor(std::vector<float>{step}, at::kFloat)},
           {"coefficient", tables.coefficient},
           {"frequency", tables.frequency}},
          choice.theta};
}

}  // namespace lpld
