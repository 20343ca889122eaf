// The table of codecs: one line per kind. `make` answers null for a name of another kind, and throws E_CONFIG for one of
// its own with impossible parameters.
#include "codecs/codec.h"
#include "codecs/delta.h"
#include "codecs/dense.h"
#include "codecs/features.h"
#include "codecs/klt.h"
#include "codecs/topk.h"
#include "core/aten.h"

namespace lpld {

namespace {
struct Entry {
  const char* form;     // for messages
  const char* example;  // a valid name
  std::unique_ptr<Codec> (*make)(const std::string& name);
};
const Entry kCodecs[] = {
    {"dense:f16", "dense:f16", make_dense},
    {"dense:int8", "dense:int8", make_dense},
    {"dense:int4", "dense:int4", make_dense},
    {"topk:M:mr|ms|mrs", "topk:3:ms", make_topk},
    {"features", "features", make_features},
    {"klt:BYTES|mse=ERROR", "klt:24", make_klt},
    {"delta:BYTES|mse=ERROR", "delta:24", make_delta},
};
}  // namespace

std::vector<std::string> codec_names() {
  std::vector<std::string> names;
  for (const auto& entry : kCodecs) names.emplace_back(entry.example);
  return names;
}

std::unique_ptr<Codec> make_codec(const std::string& name) {
  std::string known;
  for (const auto& entry : kCodecs) {
    if (auto codec = entry.make(name)) return codec;
    known += (known.empty() ? "" : ", ") + std::string(entry.form);
  }
  throw Error(Code::Config, text("expected one of ", known, " for codec but received \"", name, "\""));
}

const at::Tensor& stored(const TensorMap& rows, const char* name, at::ScalarType dtype, int64_t width,
                         const char* codec) {
  const auto found = rows.find(name);
  LPLD_CHECK(found != rows.end() && found->second.dim() == 2 && found->second.size(1) == width &&
                 found->second.scalar_type() == dtype,
             Mismatch, codec, ": expected ", name, " ", c10::toString(dtype), " [n, ", width, "]");
  return found->second;
}

}  // namespace lpld
