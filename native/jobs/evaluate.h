#pragma once
// evaluate: top-1, top-5 and mean cross-entropy of a frozen model over a store.
#include "core/device.h"
#include "core/job.h"
#include "data/recipes.h"
#include "models/model.h"

namespace lpld {

struct EvaluateSpec {
  Execution execution;
  Recipes recipes;
  InputSpec input;
};

struct EvaluateResult {
  int64_t count;
  double top1, top5;  // share in [0, 1]; top5 counts the min(5, K) largest
  double loss;
  // What the shares are made of, step by step, so that segments add up to the bits of one call.
  at::Tensor hits;       // int32 [S, 2] images whose class is the first, among the first five
  at::Tensor step_loss;  // double [S] summed cross-entropy
};

EvaluateResult evaluate(Model& model, const ImageStore& store, const EvaluateSpec& spec, const JobContext& job);

}  // namespace lpld
