// The table of codecs: one line per entry.
#include "codecs/codec.h"
#include "codecs/dense.h"
#include "core/error.h"

namespace lpld {

namespace {
struct Entry {
  const char* name;
  std::unique_ptr<Codec> (*make)();
};
const Entry kCodecs[] = {
    {"dense:f16", [] { return std::unique_ptr<Codec>(new DenseF16); }},
};
}  // namespace

std::vector<std::string> codec_names() {
  std::vector<std::string> names;
  for (const auto& entry : kCodecs) names.emplace_back(entry.name);
  return names;
}

std::unique_ptr<Codec> make_codec(const std::string& name) {
  std::string known;
  for (const auto& entry : kCodecs) {
    if (name == entry.name) return entry.make();
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw Error(Code::Config, text("expected one of ", known, " for codec but received \"", name, "\""));
}

}  // namespace lpld
