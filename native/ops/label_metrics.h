#pragma once
// label_metrics: what a teacher's answers to the rows of S records say of them, as means over each record's rows.
//   logits   [M, K] finite, K >= 1                 labels  int32 [M] class of each row's own image, or undefined
//   offset   int32 [S + 1], rising from 0 to M; every record has a row
//   returns  double [S] each, of p = softmax(logits) at temperature 1:
//            confidence   mean of the largest p
//            diff         mean of the largest p minus the second (K = 1: minus 0)
//            diff_signed  mean of p of the own class minus the largest other p; undefined without labels
//            correct      share of rows whose largest logit is the own class (ties: the lower class); likewise
//   throws   E_MISMATCH on rows, offsets or labels that do not fit; E_DIVERGED on logits that are not finite
//   source   methods/lpld-sre2l-cda.md 5.4: the metrics are the paper's, these definitions are ours
//   tested   test/ops/label-metrics.test.ts against test/reference/label-metrics.ts
#include <ATen/core/Tensor.h>

namespace lpld {

struct LabelMetrics {
  at::Tensor confidence, diff, diff_signed, correct;
};

LabelMetrics label_metrics(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& offset);

}  // namespace lpld
