// The fit of klt_fit.h: covariance or Gram matrix, whichever is smaller, its eigenvectors, then a bisection over theta with
// the coder's own count of bits. Dropping a component makes bits and error jump, so theta is settled in two steps.
#include "codecs/klt_fit.h"

#include "codecs/coefficient_coder.h"
#include "core/aten.h"

namespace lpld {

namespace {
constexpr int64_t kMaxSide = 2048;    // of an eigenproblem: where K is larger, so many rows of the sample are used
constexpr int64_t kModelRows = 4096;  // rows the mixtures are fitted to
constexpr double kNull = 1e-10;       // of the largest eigenvalue: what float32 logits cannot tell from 0
// lambda / theta from which a component is kept. An ideal coder's 1 is not a dithered quantiser's: its first bits buy less.
// For Gaussian components and spectra like 1 / j^1.3, 2.5 leaves 5 to 14 % less error than 1 at the same bits.
constexpr double kWorthKeeping = 2.5;
constexpr int kBisections = 48;
constexpr double kVectorShare = 0.005;  // of the error: what vectors in bytes may add

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

// The sample in its eigenbasis, and what a choice of theta and of the components kept would cost.
class Plan {
 public:
  Plan(const at::Tensor& x, const at::Tensor& vectors) : energy_(power(x)), classes_(double(x.size(1))) {
    const at::Tensor coefficients = x.mm(vectors.t());  // [N, M]
    const at::Tensor square = coefficients.square().mean(0).contiguous();
    lambda_.assign(square.const_data_ptr<double>(), square.const_data_ptr<double>() + square.size(0));
    mixtures_.resize(lambda_.size());
    sorted_ = std::get<0>(thinned(coefficients, kModelRows).t().contiguous().sort(/*dim=*/1)).contiguous();
  }

  int64_t kept(double theta) const {
    int64_t m = 0;
    while (m < int64_t(lambda_.size()) && is_worth(m, theta)) ++m;
    return m;
  }
  double left_out(int64_t m) const {
    double sum = energy_;
    for (int64_t j = 0; j < m; ++j) sum -= lambda_[j];
    return std::max(0.0, sum);
  }
  double mse(double theta, int64_t m) const { return (theta * double(m) + left_out(m)) / classes_; }
  double bits(double theta, int64_t m) {
    double sum = 0;
    for (int64_t j = 0; j < m; ++j)
      sum += expected_bits(mixture(j), values(j), sorted_.size(1), 1 / std::sqrt(12 * theta));
    return sum;
  }
  bool is_worth(int64_t j, double theta) const { return lambda_[j] > kWorthKeeping * theta; }
  // Of the first m components, those that are coded.
  QuantiserFit quantiser(double theta, int64_t m, const std::function<bool(int64_t)>& is_coded) {
    const float step = m > 0 ? float(std::sqrt(12 * theta)) : 1.0f;
    std::vector<uint8_t> bytes;
    for (int64_t j = 0; j < m; ++j)
      for (const auto& g : is_coded(j) ? to_bytes(mixture(j), 1 / double(step)) : std::vector{kLeftOut})
        bytes.insert(bytes.end(), {g.share, g.width, g.centre});
    return {m, theta, theta * double(m) + left_out(m), step, at::tensor(bytes, at::kByte).view({-1, 3})};
  }
  double largest() const { return lambda_.empty() ? 0 : *std::max_element(lambda_.begin(), lambda_.end()); }
  double classes() const { return classes_; }

 private:
  const double* values(int64_t j) const { return sorted_.const_data_ptr<double>() + j * sorted_.size(1); }
  const Mixture& mixture(int64_t j) {  // made when first asked for: most components are never kept
    if (mixtures_[j].empty()) mixtures_[j] = fit_mixture(values(j), sorted_.size(1));
    return mixtures_[j];
  }

  std::vector<double> lambda_;
  at::Tensor sorted_;  // [M, N]
  std::vector<Mixture> mixtures_;
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
// component is kept any theta would do: one no finer than what was asked for.
Choice choose(Plan& plan, const KltTarget& target) {
  const double high = plan.largest(), low = std::max(target.least, kNull * high);
  const double nothing = std::max({low, high, target.goal == KltGoal::Mse ? target.value : 0.0});
  if (low >= high) return {nothing, 0};
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

const at::Tensor& checked_sample(const at::Tensor& rows) {
  LPLD_CHECK(rows.abs().le(kMostLogit).all().item<bool>() && rows.size(0) > 0, Diverged,
             "expected logits within 1e12 of at least one row to fit a basis to");
  return rows;
}

double power(const at::Tensor& rows) {
  const double norm = at::linalg_vector_norm(rows).item<double>();
  return norm * norm / double(rows.size(0));
}

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

QuantiserFit fit_quantiser(const at::Tensor& x, const at::Tensor& vectors, const KltTarget& target) {
  Plan plan(x, vectors);
  const Choice choice = choose(plan, target);
  return plan.quantiser(choice.theta, choice.kept, [](int64_t) { return true; });
}

QuantiserFit fit_quantiser_at(const at::Tensor& x, const at::Tensor& vectors, double theta, int64_t first) {
  Plan plan(x, vectors);
  return plan.quantiser(theta, vectors.size(0), [&](int64_t j) { return j >= first && plan.is_worth(j, theta); });
}

at::Tensor strength(const at::Tensor& x, const at::Tensor& vectors) { return x.mm(vectors.t()).square().mean(0); }

int64_t worth_keeping(const at::Tensor& x, const at::Tensor& vectors, double theta) {
  const at::Tensor lambda = strength(x, vectors).contiguous();
  const double* first = lambda.const_data_ptr<double>();
  const double* end = first + lambda.size(0);
  return std::find_if(first, end, [&](double value) { return value <= kWorthKeeping * theta; }) - first;
}

at::Tensor stored_vectors(const at::Tensor& vectors, const at::Tensor& strength, double error) {
  if (vectors.size(0) == 0) return vectors.to(at::kChar);
  const int64_t row[] = {1};
  const at::Tensor bytes = (vectors * (127 / vectors.abs().amax(row, /*keepdim=*/true))).round();
  const at::Tensor read = bytes / at::linalg_vector_norm(bytes, 2, row, /*keepdim=*/true);
  const at::Tensor off = (read - vectors).square().sum(row);
  const bool fine = (strength * off).sum().item<double>() <= kVectorShare * error;
  return fine ? bytes.to(at::kChar) : vectors.to(at::kHalf);
}

}  // namespace lpld
