#pragma once
// train: one segment of student or teacher training. State (weights, moments, step count) stays with the Model.
// QUIRK(shard-norm): upstream's DataParallel takes BatchNorm statistics of each GPU's shard; changed: of the whole batch.
#include <map>
#include <optional>
#include <string>

#include "core/device.h"
#include "core/job.h"
#include "data/recipes.h"
#include "jobs/code.h"
#include "models/model.h"

namespace lpld {

struct TrainSpec {
  Execution execution;
  Recipes recipes;
  InputSpec input;
  bool soft;         // else hard labels from the store
  double smoothing;  // hard
  CodeSpec code;     // soft
  EncodedRecords labels;
  double temperature, teacher_temperature, loss_scale;
  bool adamw;     // else sgd
  at::Tensor lr;  // double [S]
  double momentum, beta1, beta2, eps, weight_decay;
  bool decay_all;  // else only weights of two or more dimensions
  bool hash_pixels;
};

struct TrainResult {
  at::Tensor loss, agreement;  // double [S]
  std::string pixel_hash;
};

TrainResult train(Model& model, const ImageStore& store, const TrainSpec& spec, const JobContext& job);

}  // namespace lpld
