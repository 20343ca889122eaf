#pragma once
#include "codecs/codec.h"

namespace lpld {
std::unique_ptr<Codec> make_topk(const std::string& name);  // null for a name of another codec
}  // namespace lpld
