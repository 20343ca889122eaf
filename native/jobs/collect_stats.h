#pragma once
// collect_stats: the squeeze of a dataset: per BatchNorm layer and class, mean and biased variance of the layer input.
//   exact  pooled over all images and views: float64 sums, shifted by the layer's running mean
//   ema    as published (LPLD): each batch in which a class occurs moves its row by `momentum` towards the batch's
//          statistics of that class, starting at mean 0, variance 1 (QUIRK(ema-stats): noisy, order dependent; kept)
//   QUIRK(ddp-stats): upstream's processes overwrite each other's statistics and keep a quarter of the images; changed: one
//          process sees all
//   source methods 3.2; the network normalises with its ordinary running statistics throughout
#include "codecs/codec.h"
#include "core/device.h"
#include "core/job.h"
#include "data/recipes.h"
#include "models/model.h"

namespace lpld {

enum class StatsMode { Ema, Exact };

struct CollectStatsSpec {
  Execution execution;
  Recipes recipes;
  InputSpec input;
  StatsMode mode;
  double momentum;
  TensorMap
      state;  // `<layer>.mean`, `.var` or `<layer>.sum`, `.sumSquares` F64 [K, C], `<layer>.elements` F64 [K]; `count` F64 [K]
};

TensorMap initial_class_stats(const Model& model, StatsMode mode);
TensorMap collect_stats(Model& model, const ImageStore& store, CollectStatsSpec spec, const JobContext& job);
// `<layer>.mean`, `<layer>.var` F32 [K, C], `count` I64 [K] (images seen, or updates for ema).
TensorMap finish_class_stats(const Model& model, StatsMode mode, const TensorMap& state);

}  // namespace lpld
