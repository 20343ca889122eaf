#pragma once
// similarity: how alike a frozen model finds the images of each class of a store: mean pairwise cosine of their features
// (the input of the last linear layer). What LPLD claims to lower against SRe2L and CDA.
#include "core/device.h"
#include "core/job.h"
#include "data/recipes.h"
#include "models/model.h"

namespace lpld {

struct SimilaritySpec {
  Execution execution;
  Recipes recipes;  // every image of a class in them once: pairs are pairs of rows
  InputSpec input;
};

// double [K], NaN for classes of fewer than two rows. Features of all rows are held at once, float [M, D].
at::Tensor similarity(Model& model, const ImageStore& store, const SimilaritySpec& spec, const JobContext& job);

}  // namespace lpld
