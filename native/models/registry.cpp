// The table of architectures: one line per entry.
#include "core/error.h"
#include "models/convnet.h"
#include "models/model.h"
#include "models/resnet.h"

namespace lpld {

namespace {
struct Entry {
  const char* name;
  std::unique_ptr<Model> (*make)(const ModelOptions&);
};
const Entry kArchs[] = {
    {"convnet", make_convnet},   {"resnet18", make_resnet18},   {"resnet34", make_resnet34},
    {"resnet50", make_resnet50}, {"resnet101", make_resnet101},
};
}  // namespace

std::vector<std::string> arch_names() {
  std::vector<std::string> names;
  for (const auto& entry : kArchs) names.emplace_back(entry.name);
  return names;
}

std::unique_ptr<Model> make_model(const ModelOptions& options, uint64_t seed) {
  std::string known;
  for (const auto& entry : kArchs) {
    if (options.arch == entry.name) {
      auto model = entry.make(options);
      model->initialise(seed);
      return model;
    }
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw Error(Code::Config, text("expected one of ", known, " for arch but received \"", options.arch, "\""));
}

}  // namespace lpld
