#include "ops/label_metrics.h"

#include "core/aten.h"

namespace lpld {

namespace {
struct RowMetrics {
  double confidence = 0, diff = 0, diff_signed = 0, correct = 0;
};

// One row of K logits; own < 0 where the class is not known. Doubles, relative to the largest logit.
RowMetrics row_metrics(const float* z, int64_t classes, int64_t own) {
  const int64_t top = std::max_element(z, z + classes) - z;  // the first of equals
  double sum = 0, second = 0, other = 0;                     // of exp(z - z[top])
  for (int64_t k = 0; k < classes; ++k) {
    const double e = std::exp(double(z[k]) - double(z[top]));
    sum += e;
    if (k != top) second = std::max(second, e);
    if (k != own) other = std::max(other, e);
  }
  RowMetrics row{1 / sum, (1 - second) / sum};
  if (own < 0) return row;
  row.diff_signed = (std::exp(double(z[own]) - double(z[top])) - other) / sum;
  row.correct = own == top ? 1 : 0;
  return row;
}

void check(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& offset) {
  LPLD_CHECK(logits.dim() == 2 && logits.size(1) > 0 && offset.dim() == 1 && offset.size(0) > 0 &&
                 offset.scalar_type() == at::kInt,
             Mismatch, "label_metrics: expected logits [M, K] and offsets int32 [S + 1] but received ", logits.sizes(),
             " and ", offset.sizes());
  const int64_t rows = logits.size(0), records = offset.size(0) - 1;
  const int32_t* at = offset.const_data_ptr<int32_t>();
  bool rising = at[0] == 0 && at[records] == rows;
  for (int64_t r = 0; r < records; ++r) rising = rising && at[r] < at[r + 1];
  LPLD_CHECK(rising, Mismatch, "label_metrics: expected offsets rising from 0 to ", rows, ", every record with a row");
  LPLD_CHECK(at::isfinite(logits).all().item<bool>(), Diverged,
             "label_metrics: expected finite logits but received others");
  if (!labels.defined()) return;
  LPLD_CHECK(labels.dim() == 1 && labels.size(0) == rows && labels.scalar_type() == at::kInt, Mismatch,
             "label_metrics: expected ", rows, " classes int32 but received ", labels.sizes());
  const int32_t* own = labels.const_data_ptr<int32_t>();
  for (int64_t row = 0; row < rows; ++row)
    LPLD_CHECK(own[row] >= 0 && own[row] < logits.size(1), Mismatch, "label_metrics: expected a class in [0, ",
               logits.size(1), ") but received ", own[row]);
}
}  // namespace

LabelMetrics label_metrics(const at::Tensor& given, const at::Tensor& labels, const at::Tensor& offset) {
  check(given, labels, offset);
  const at::Tensor logits = given.to(at::kFloat).contiguous();
  const int64_t records = offset.size(0) - 1, classes = logits.size(1);
  const auto empty = [records] { return at::empty({records}, at::TensorOptions().dtype(at::kDouble)); };
  LabelMetrics out{empty(), empty(), {}, {}};
  if (labels.defined()) out.diff_signed = empty(), out.correct = empty();
  const int32_t* at = offset.const_data_ptr<int32_t>();
  for (int64_t r = 0; r < records; ++r) {
    RowMetrics sum;
    for (int64_t row = at[r]; row < at[r + 1]; ++row) {
      const int64_t own = labels.defined() ? labels.const_data_ptr<int32_t>()[row] : -1;
      const RowMetrics one = row_metrics(logits.const_data_ptr<float>() + row * classes, classes, own);
      sum.confidence += one.confidence;
      sum.diff += one.diff;
      sum.diff_signed += one.diff_signed;
      sum.correct += one.correct;
    }
    const double rows = at[r + 1] - at[r];
    out.confidence.mutable_data_ptr<double>()[r] = sum.confidence / rows;
    out.diff.mutable_data_ptr<double>()[r] = sum.diff / rows;
    if (!labels.defined()) continue;
    out.diff_signed.mutable_data_ptr<double>()[r] = sum.diff_signed / rows;
    out.correct.mutable_data_ptr<double>()[r] = sum.correct / rows;
  }
  return out;
}

}  // namespace lpld
