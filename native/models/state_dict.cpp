#include "models/state_dict.h"

#include "core/aten.h"

namespace lpld {

void load_state_dict(Model& model, const std::map<std::string, at::Tensor>& tensors) {
  const c10::AutoGradMode no_grad(false);
  std::vector<std::string> problems;
  std::map<std::string, const at::Tensor*> wanted;
  for (const auto& [name, value] : model.tensors) {
    wanted[name] = &value;
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      if (!name.ends_with("num_batches_tracked")) problems.push_back(text(name, " is missing"));
    } else if (found->second.sizes() != value.sizes()) {
      problems.push_back(text(name, " has shape ", found->second.sizes(), " where ", value.sizes(), " is needed"));
    }
  }
  for (const auto& [name, value] : tensors)
    if (wanted.count(name) == 0) problems.push_back(text(name, " is extra"));
  if (!problems.empty()) {
    std::string message = text("expected the weights of ", model.options.arch, " but ");
    for (size_t i = 0; i < problems.size() && i < 5; ++i) message += (i == 0 ? "" : ", ") + problems[i];
    if (problems.size() > 5) message += text(", and ", problems.size() - 5, " more");
    throw Error(Code::Mismatch, message);
  }
  for (const auto& [name, value] : tensors) {
    at::Tensor target = *wanted[name];
    target.copy_(value);
  }
  model.moment1.clear();
  model.moment2.clear();
  model.optimizer_steps = 0;
}

std::map<std::string, at::Tensor> optimizer_state(const Model& model) {
  std::map<std::string, at::Tensor> out;
  if (model.moment1.empty()) return out;
  for (size_t i = 0; i < model.parameters.size(); ++i) {
    out[model.parameters[i].name + ".m"] = model.moment1[i];
    if (!model.moment2.empty()) out[model.parameters[i].name + ".v"] = model.moment2[i];
  }
  out["step"] = at::full({}, model.optimizer_steps, at::kLong);
  return out;
}

void load_optimizer_state(Model& model, const std::map<std::string, at::Tensor>& tensors) {
  std::vector<at::Tensor> moment1, moment2;
  int64_t steps = 0;
  const auto take = [&](const std::string& name, const at::Tensor& like) {
    const auto found = tensors.find(name);
    LPLD_CHECK(found != tensors.end() && found->second.sizes() == like.sizes(), Mismatch, "optimizer state: expected ",
               name, " of shape ", like.sizes());
    return at::empty_like(like).copy_(found->second);
  };
  const c10::AutoGradMode no_grad(false);
  if (!tensors.empty()) {
    const auto step = tensors.find("step");
    LPLD_CHECK(step != tensors.end() && step->second.numel() == 1 && !step->second.is_floating_point(), Mismatch,
               "optimizer state: expected a tensor step with one integer");
    steps = step->second.item<int64_t>();
    LPLD_CHECK(steps >= 1, Mismatch, "optimizer state: expected step >= 1, received ", steps);
    const bool second = tensors.count(model.parameters.at(0).name + ".v") > 0;
    for (const auto& [name, value] : model.parameters) {
      moment1.push_back(take(name + ".m", value));
      if (second) moment2.push_back(take(name + ".v", value));
    }
  }
  model.moment1 = std::move(moment1);  // only now: a refused state leaves the model as it was
  model.moment2 = std::move(moment2);
  model.optimizer_steps = steps;
}

}  // namespace lpld
