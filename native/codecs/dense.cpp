// dense: every logit.
//   dense:f16   as an IEEE half, rounded to nearest even: what SRe2L and LPLD store. 2 K bytes a row
//   dense:int8  as one of 256 levels between the row's least and largest logit: K + 4 bytes a row
//   dense:int4  as one of 16, two to a byte, the first in the low four bits: ceil(K / 2) + 4 bytes a row
// The int codecs keep the lowest level and the step of each row as halves, the step rounded up, so that the levels span
// the row; an error is at most half a step and the rounding of the lowest level. Logits beyond +-65504 are refused.
// QUIRK(half-logits): rounded before the temperature divides them, 1e-4 of the loss; kept.
#include "codecs/dense.h"

#include <c10/util/Half.h>

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

// The half at or above x >= 0.
float half_above(float x) {
  c10::Half half(x);
  if (float(half) < x) ++half.x;  // the next representable one: bits count upwards
  return float(half);
}

class DenseInt final : public Codec {
 public:
  explicit DenseInt(int64_t bits) : name_(bits == 8 ? "dense:int8" : "dense:int4"), levels_((1 << bits) - 1) {}

  void bind(const TensorMap&, int64_t classes, const at::Device& device) override {
    classes_ = classes;
    width_ = levels_ == 255 ? classes : (classes + 1) / 2;
    device_ = device;
  }

  Encoded encode(const Answer& answer, const RecordContext&) const override {
    const at::Tensor logits = answer.logits.contiguous();  // [n, K]
    const int64_t rows = logits.size(0);
    at::Tensor codes = at::zeros({rows, width_}, at::kByte);
    at::Tensor range = at::empty({rows, 2}, at::kHalf);  // lowest level, step
    const float* in = logits.const_data_ptr<float>();
    uint8_t* out = codes.mutable_data_ptr<uint8_t>();
    c10::Half* ends = range.mutable_data_ptr<c10::Half>();
    for (int64_t row = 0; row < rows; ++row) {
      const float* z = in + row * classes_;
      const auto [least, most] = std::minmax_element(z, z + classes_);
      const float low = float(c10::Half(*least));
      const float step = half_above(std::max(0.0f, *most - low) / float(levels_));
      const bool in_range = std::all_of(z, z + classes_, [](float v) { return std::abs(v) <= 65504.0f; });
      LPLD_CHECK(in_range, Diverged, name_,
                 ": expected finite logits within +-65504, received a larger or non-finite one");
      ends[2 * row] = c10::Half(low);
      ends[2 * row + 1] = c10::Half(step);
      for (int64_t k = 0; k < classes_; ++k) {
        const float level = step > 0 ? std::nearbyint((z[k] - low) / step) : 0.0f;
        put(out + row * width_, k, uint8_t(std::clamp(level, 0.0f, float(levels_))));
      }
    }
    return {{{"code", codes}, {"range", range}}, {}};
  }

  at::Tensor decode(const Encoded& record, const RecordContext&) const override {
    const at::Tensor codes = stored(record.rows, "code", at::kByte, width_, name_).to(device_);
    const at::Tensor range = stored(record.rows, "range", at::kHalf, 2, name_).to(device_).to(at::kFloat);
    at::Tensor levels = codes;
    if (levels_ == 15) {
      const at::Tensor pairs = at::stack({codes.bitwise_and(15), codes.bitwise_right_shift(4)}, 2);  // [n, width, 2]
      levels = pairs.flatten(1).narrow(1, 0, classes_);
    }
    return levels.to(at::kFloat) * range.narrow(1, 1, 1) + range.narrow(1, 0, 1);
  }

 private:
  void put(uint8_t* row, int64_t k, uint8_t level) const {
    if (levels_ == 255)
      row[k] = level;
    else
      row[k / 2] = uint8_t(row[k / 2] | (level << (k % 2 * 4)));
  }

  const char* name_;
  int levels_;  // the largest
  int64_t classes_ = 0, width_ = 0;
  at::Device device_{at::kCPU};
};
}  // namespace

std::unique_ptr<Codec> make_dense(const std::string& name) {
  if (name == "dense:f16") return std::make_unique<DenseF16>();
  if (name == "dense:int8") return std::make_unique<DenseInt>(8);
  if (name == "dense:int4") return std::make_unique<DenseInt>(4);
  return nullptr;
}

}  // namespace lpld
