#pragma once
#include "models/model.h"

namespace lpld {
std::unique_ptr<Model> make_convnet(const ModelOptions& options);
}
