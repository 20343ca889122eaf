// dense:f16: every logit as an IEEE half, rounded to nearest even: what SRe2L and LPLD store. Logits beyond
// +-65504 are refused rather than turned into infinities.
// QUIRK(half-logits): rounded before the temperature divides them, 1e-4 of the loss; kept.
#include "codecs/dense.h"

#include "core/aten.h"

namespace lpld {

TensorMap DenseF16::fit(const Answer&) const { return {}; }

TensorMap DenseF16::encode(const Answer& answer, const TensorMap&) const {
  const at::Tensor half = answer.logits.to(at::kHalf);
  LPLD_CHECK(at::isfinite(half).all().item<bool>(), Diverged,
             "dense:f16: expected finite logits within +-65504, received a larger or non-finite one");
  return {{"logits", half.contiguous()}};
}

at::Tensor DenseF16::decode(const TensorMap& rows, const TensorMap&, int64_t classes, const at::Device& device) const {
  const auto found = rows.find("logits");
  LPLD_CHECK(found != rows.end() && found->second.dim() == 2 && found->second.size(1) == classes &&
                 found->second.scalar_type() == at::kHalf,
             Mismatch, "dense:f16: expected logits F16 [n, ", classes, "]");
  return found->second.to(device).to(at::kFloat);
}

}  // namespace lpld
