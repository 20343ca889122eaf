// dense:f16: every logit as an IEEE half, rounded to nearest even: what SRe2L and LPLD store. Logits beyond
// +-65504 are refused rather than turned into infinities.
#include "codecs/dense.h"

#include "core/aten.h"

namespace lpld {

namespace {
class DenseF16 final : public Codec {
 public:
  void bind(const TensorMap&, int64_t classes, const at::Device& device) override {
    classes_ = classes;
    device_ = device;
  }
  Encoded encode(const Answer& answer, const RecordContext&) const override {
    const at::Tensor half = answer.logits.to(at::kHalf);
    LPLD_CHECK(at::isfinite(half).all().item<bool>(), Diverged,
               "dense:f16: expected finite logits within +-65504, received a larger or non-finite one");
    return {{{"logits", half.contiguous()}}, {}};
  }
  at::Tensor decode(const Encoded& record, const RecordContext&) const override {
    return stored(record.rows, "logits", at::kHalf, classes_, "dense:f16").to(device_).to(at::kFloat);
  }

 private:
  int64_t classes_ = 0;
  at::Device device_{at::kCPU};
};
}  // namespace

std::unique_ptr<Codec> make_dense(const std::string& name) {
  if (name == "dense:f16") return std::make_unique<DenseF16>();
  return nullptr;
}

}  // namespace lpld
