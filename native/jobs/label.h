#pragma once
// label: the teacher's answers to replayed batches, encoded. The image may be a mixture of two classes: the teacher is
// asked about the mixture, so nothing is mixed in label space (methods 4.1). Teacher frozen, in eval mode.
#include "codecs/codec.h"
#include "core/device.h"
#include "core/job.h"
#include "data/recipes.h"
#include "models/model.h"

namespace lpld {

struct LabelSpec {
  Execution execution;
  Recipes recipes;
  InputSpec input;
  std::string codec;
  TensorMap basis;
  bool hash_pixels;
};

struct LabelResult {
  TensorMap tensors;  // rows [M, ...]
  double agreement;   // share of rows whose argmax is the image's class
  std::string pixel_hash;
};

LabelResult label(Model& teacher, const ImageStore& store, const LabelSpec& spec, const JobContext& job);

}  // namespace lpld
