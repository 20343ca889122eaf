#pragma once
#include "codecs/codec.h"

namespace lpld {
class DenseF16 final : public Codec {
 public:
  TensorMap fit(const Answer& sample) const override;
  TensorMap encode(const Answer& answer, const TensorMap& basis) const override;
  at::Tensor decode(const TensorMap& rows, const TensorMap& basis, int64_t classes,
                    const at::Device& device) const override;
};
}  // namespace lpld
