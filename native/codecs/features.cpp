// features: the input of the teacher's last linear layer as halves, 2 D bytes a row, and that layer once, as floats. The
// logits are that layer's: exact up to the rounding of the features, at 1/20 of the bytes for 10,450 classes and D = 512.
// One teacher only: the mean of several is no function of one's features.
// Source: methods/frontier.md 3.4 (rank fact).
#include "codecs/features.h"

#include "core/aten.h"

namespace lpld {

namespace {
class Features final : public Codec {
 public:
  CodecNeeds needs() const override { return {.features = true}; }

  TensorMap fit(const FitSample& sample) const override {
    LPLD_CHECK(sample.head.weight.defined(), Config,
               "features: expected one teacher whose last layer can be kept, received none or an ensemble");
    return {{"weight", sample.head.weight.contiguous()}, {"bias", sample.head.bias.contiguous()}};
  }

  void bind(const TensorMap& basis, int64_t classes, const at::Device& device) override {
    const auto weight = basis.find("weight"), bias = basis.find("bias");
    LPLD_CHECK(weight != basis.end() && bias != basis.end() && weight->second.dim() == 2 &&
                   weight->second.size(0) == classes && bias->second.sizes() == at::IntArrayRef{classes} &&
                   weight->second.scalar_type() == at::kFloat && bias->second.scalar_type() == at::kFloat,
               Mismatch, "features: expected a basis of weight F32 [", classes, ", D] and bias F32 [", classes, "]");
    width_ = weight->second.size(1);
    weight_ = weight->second.to(device).to(at::kDouble);  // no precision of a job touches float64
    bias_ = bias->second.to(device).to(at::kDouble);
  }

  Encoded encode(const Answer& answer, const RecordContext&) const override {
    LPLD_CHECK(answer.features.defined() && answer.features.dim() == 2 && answer.features.size(1) == width_, Mismatch,
               "features: expected features [n, ", width_, "] beside the logits");
    const at::Tensor half = answer.features.to(at::kHalf);
    LPLD_CHECK(at::isfinite(half).all().item<bool>(), Diverged,
               "features: expected finite features within +-65504, received a larger or non-finite one");
    return {{{"features", half.contiguous()}}, {}};
  }

  at::Tensor decode(const Encoded& record, const RecordContext&) const override {
    const at::Tensor half = stored(record.rows, "features", at::kHalf, width_, "features");
    return at::linear(half.to(weight_.device()).to(at::kDouble), weight_, bias_).to(at::kFloat);  // [n, K]
  }

 private:
  int64_t width_ = 0;
  at::Tensor weight_, bias_;
};
}  // namespace

std::unique_ptr<Codec> make_features(const std::string& name) {
  return name == "features" ? std::make_unique<Features>() : nullptr;
}

}  // namespace lpld
