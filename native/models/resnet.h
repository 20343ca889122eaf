#pragma once
#include "models/model.h"

namespace lpld {
std::unique_ptr<Model> make_resnet18(const ModelOptions& options);
std::unique_ptr<Model> make_resnet34(const ModelOptions& options);
std::unique_ptr<Model> make_resnet50(const ModelOptions& options);
std::unique_ptr<Model> make_resnet101(const ModelOptions& options);
}  // namespace lpld
