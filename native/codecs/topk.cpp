// topk:M:MODE keeps the M largest logits of a row, as halves in falling order (ties by rising class), with their classes
// in ceil(log2 K) bits each, lowest bit first. MODE says what stands for the others:
//   mr   nothing: their probability is zero (marginal re-normalisation; LPQLD's default). Decodes to -65504
//   ms   one value, at which they share evenly what probability the kept ones leave at temperature 1 (marginal smoothing)
//   mrs  the row's least logit
// 2 M + ceil(M ceil(log2 K) / 8) bytes a row, and 2 for the one value of ms and mrs.
// Source: FKD's label kinds, LPQLD (methods/frontier.md 1.4).
#include "codecs/topk.h"

#include <c10/util/Half.h>

#include <numeric>

#include "core/aten.h"

namespace lpld {

namespace {
enum class Rest { Zero, Smooth, Least };

class TopK final : public Codec {
 public:
  TopK(std::string name, int64_t kept, Rest rest) : name_(std::move(name)), wanted_(kept), rest_(rest) {}

  void bind(const TensorMap&, int64_t classes, const at::Device& device) override {
    classes_ = classes;
    kept_ = std::min(wanted_, classes);
    bits_ = 0;
    while ((int64_t{1} << bits_) < classes) ++bits_;
    packed_ = (kept_ * bits_ + 7) / 8;
    device_ = device;
  }

  Encoded encode(const Answer& answer, const RecordContext&) const override {
    const at::Tensor logits = answer.logits.contiguous();  // [n, K]
    LPLD_CHECK(at::isfinite(logits.to(at::kHalf)).all().item<bool>(), Diverged, name_,
               ": expected finite logits within +-65504, received a larger or non-finite one");
    const int64_t rows = logits.size(0);
    at::Tensor value = at::empty({rows, kept_}, at::kHalf), index = at::zeros({rows, packed_}, at::kByte);
    at::Tensor rest = at::empty({rows, 1}, at::kHalf);
    std::vector<int64_t> order(static_cast<size_t>(classes_));
    for (int64_t row = 0; row < rows; ++row) {
      const float* z = logits.const_data_ptr<float>() + row * classes_;
      std::iota(order.begin(), order.end(), 0);
      const auto larger = [z](int64_t a, int64_t b) { return z[a] != z[b] ? z[a] > z[b] : a < b; };
      std::partial_sort(order.begin(), order.begin() + kept_, order.end(), larger);
      uint8_t* codes = index.mutable_data_ptr<uint8_t>() + row * packed_;
      for (int64_t i = 0; i < kept_; ++i) {
        value.mutable_data_ptr<c10::Half>()[row * kept_ + i] = c10::Half(z[order[size_t(i)]]);
        for (int64_t bit = 0; bit < bits_; ++bit)
          if ((order[size_t(i)] >> bit) & 1) codes[(i * bits_ + bit) / 8] |= uint8_t(1 << ((i * bits_ + bit) % 8));
      }
      rest.mutable_data_ptr<c10::Half>()[row] = c10::Half(value_of_rest(z, order));
    }
    TensorMap out{{"value", value}, {"class", index}};
    if (rest_ != Rest::Zero) out["rest"] = rest;
    return {out, {}};
  }

  at::Tensor decode(const Encoded& record, const RecordContext&) const override {
    const at::Tensor value = stored(record.rows, "value", at::kHalf, kept_, name_.c_str()).contiguous();
    const at::Tensor index = stored(record.rows, "class", at::kByte, packed_, name_.c_str()).contiguous();
    const int64_t rows = value.size(0);
    at::Tensor out = at::full({rows, classes_}, -65504.0f, at::kFloat);
    if (rest_ != Rest::Zero) out.copy_(stored(record.rows, "rest", at::kHalf, 1, name_.c_str()));
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* codes = index.const_data_ptr<uint8_t>() + row * packed_;
      for (int64_t i = 0; i < kept_; ++i) {
        int64_t k = 0;
        for (int64_t bit = 0; bit < bits_; ++bit)
          k |= int64_t{(codes[(i * bits_ + bit) / 8] >> ((i * bits_ + bit) % 8)) & 1} << bit;
        LPLD_CHECK(k < classes_, Data, name_, ": expected a class below ", classes_, ", received ", k);
        out.mutable_data_ptr<float>()[row * classes_ + k] = float(value.const_data_ptr<c10::Half>()[row * kept_ + i]);
      }
    }
    return out.to(device_);
  }

 private:
  float value_of_rest(const float* z, const std::vector<int64_t>& order) const {
    if (kept_ == classes_ || rest_ == Rest::Zero) return -65504.0f;
    const auto first = order.begin() + kept_;
    if (rest_ == Rest::Least)
      return z[*std::min_element(first, order.end(), [z](int64_t a, int64_t b) { return z[a] < z[b]; })];
    const double top = z[*std::max_element(first, order.end(), [z](int64_t a, int64_t b) { return z[a] < z[b]; })];
    double sum = 0;  // of exp(z - top): the tail's probability up to a factor
    for (auto k = first; k != order.end(); ++k) sum += std::exp(double(z[*k]) - top);
    return float(top + std::log(sum / double(classes_ - kept_)));
  }

  const std::string name_;
  const int64_t wanted_;
  const Rest rest_;
  int64_t classes_ = 0, kept_ = 0, bits_ = 0, packed_ = 0;
  at::Device device_{at::kCPU};
};
}  // namespace

std::unique_ptr<Codec> make_topk(const std::string& name) {
  if (name.rfind("topk:", 0) != 0) return nullptr;
  const size_t colon = name.find(':', 5);
  const std::string count = name.substr(5, colon == std::string::npos ? colon : colon - 5);
  const std::string mode = colon == std::string::npos ? "" : name.substr(colon + 1);
  const bool digits = !count.empty() && count.size() <= 6 && count.find_first_not_of("0123456789") == std::string::npos;
  LPLD_CHECK(digits && count[0] != '0' && (mode == "mr" || mode == "ms" || mode == "mrs"), Config,
             "expected topk:M:mr, topk:M:ms or topk:M:mrs with M >= 1 for codec but received \"", name, "\"");
  return std::make_unique<TopK>(name, std::stoll(count),
                                mode == "mr" ? Rest::Zero : (mode == "ms" ? Rest::Smooth : Rest::Least));
}

}  // namespace lpld
