#pragma once
// Weights and optimizer state in and out of a Model.
#include <map>
#include <string>

#include "models/model.h"

namespace lpld {
// Throws E_MISMATCH naming the first five missing, extra or mis-shaped keys; `num_batches_tracked` may be absent.
void load_state_dict(Model& model, const std::map<std::string, at::Tensor>& tensors);
// `<name>.m`, `<name>.v` and `step` I64 []; empty before the first training step.
std::map<std::string, at::Tensor> optimizer_state(const Model& model);
void load_optimizer_state(Model& model, const std::map<std::string, at::Tensor>& tensors);
}  // namespace lpld
