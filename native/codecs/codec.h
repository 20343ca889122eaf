#pragma once
// codec: how the teacher's answers are stored. One file per codec, one line each in registry.cpp.
//   fit      from the first records of the plan to named tensors stored once (may be empty); float64 on the CPU
//   encode   answers of n rows -> named tensors whose first dimension is n
//   decode   those rows -> logits [n, K] float on `device`
// Names carry their parameter: "dense:f16", later "topk:100".
#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lpld {

using TensorMap = std::map<std::string, at::Tensor>;

struct Answer {
  at::Tensor logits;  // [n, K] float on the CPU
};

class Codec {
 public:
  virtual ~Codec() = default;
  virtual TensorMap fit(const Answer& sample) const = 0;
  virtual TensorMap encode(const Answer& answer, const TensorMap& basis) const = 0;
  virtual at::Tensor decode(const TensorMap& rows, const TensorMap& basis, int64_t classes,
                            const at::Device& device) const = 0;
};

std::vector<std::string> codec_names();
std::unique_ptr<Codec> make_codec(const std::string& name);  // throws E_CONFIG naming the known ones

}  // namespace lpld
