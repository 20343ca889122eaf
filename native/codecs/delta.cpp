// The prediction of delta.h: its fit in two passes, and both directions. Predictions are made of coefficients of the whole
// images, [n, m] rather than [n, K], and take one product.
#include "codecs/delta.h"

#include "codecs/klt.h"
#include "core/aten.h"

namespace lpld {

namespace {
constexpr int64_t kBins = 16;          // of the share; one more where nothing is mixed
constexpr double kBaseNoise = 0.25;    // theta of the whole images / theta of the views
constexpr double kLeastNoise = 1e-10;  // theta / power of the logits: float32 holds no more of a difference
constexpr uint32_t kBaseView = 0xffffffff;
constexpr int64_t kMostBase = 1 << 28;  // numbers of all whole images: one GiB
constexpr double kMostGain = 100;       // of what a basis may hold; a share of an answer is about 1
constexpr const char* kBase = "base.";

DitherKey base_key(int64_t images) { return {0, kBaseView, at::arange(images, at::kLong)}; }

// Which gains a row takes: int64 [n].
at::Tensor bin_of(const RecordContext& c) {
  const at::Tensor bin = (c.share.to(at::kDouble) * double(kBins)).floor().clamp(0, kBins - 1).to(at::kLong);
  return at::where(c.partner.eq(c.image), at::full_like(bin, kBins), bin);
}

// The sample's contexts, one after the other.
RecordContext joined(const std::vector<RecordContext>& contexts) {
  std::vector<at::Tensor> image, partner, share;
  for (const auto& c : contexts) {
    image.push_back(c.image);
    partner.push_back(c.partner);
    share.push_back(c.share);
  }
  return {0, 0, at::cat(image), at::cat(partner), at::cat(share)};
}

void check_images(const RecordContext& c, int64_t images) {
  const bool inside =
      c.image.numel() == 0 || std::max(c.image.max().item<int64_t>(), c.partner.max().item<int64_t>()) < images;
  LPLD_CHECK(inside, Mismatch, "delta: expected images below ", images, ", those whose whole answers are in the basis");
}

// Least squares of x on g0 own + g1 partner per bin, drawn towards (share, 1 - share) with the weight of one row.
at::Tensor fit_gain(const at::Tensor& x, const at::Tensor& own, const at::Tensor& partner, const at::Tensor& bin) {
  const auto dot = [](const at::Tensor& a, const at::Tensor& b) { return (a * b).sum(1).contiguous(); };
  const at::Tensor parts =
      at::stack({dot(own, own), dot(own, partner), dot(partner, partner), dot(own, x), dot(partner, x)}, 1);  // [N, 5]
  const at::Tensor sums = at::zeros({kBins + 1, 5}, at::kDouble).index_add_(0, bin, parts);
  const double row = std::max(1e-30, parts.select(1, 0).mean().item<double>());
  at::Tensor gain = at::empty({kBins + 1, 2}, at::kFloat);
  float* g = gain.mutable_data_ptr<float>();
  for (int64_t i = 0; i <= kBins; ++i) {
    const double* s = sums.const_data_ptr<double>() + 5 * i;
    const bool whole = i == kBins;
    const double share = whole ? 1 : (double(i) + 0.5) / double(kBins);
    const double a = s[0] + row, b = whole ? 0 : s[1], c = (whole ? 0 : s[2]) + row;
    const double y0 = s[3] + row * share, y1 = whole ? 0 : s[4] + row * (1 - share);
    const double own_gain = (y0 * c - y1 * b) / (a * c - b * b), partner_gain = (y1 * a - y0 * b) / (a * c - b * b);
    g[2 * i] = float(std::clamp(own_gain, -kMostGain, kMostGain));
    g[2 * i + 1] = float(std::clamp(partner_gain, -kMostGain, kMostGain));
  }
  return gain;
}

// What is predicted of rows, in whatever form the whole images are given: [images, D] -> [n, D].
at::Tensor predicted(const at::Tensor& whole, const at::Tensor& gain, const RecordContext& c) {
  const at::Tensor g = gain.index_select(0, bin_of(c)).to(at::kDouble);
  return whole.index_select(0, c.image) * g.narrow(1, 0, 1) + whole.index_select(0, c.partner) * g.narrow(1, 1, 1);
}

class Delta final : public Codec {
 public:
  explicit Delta(KltParameter parameter) : parameter_(parameter) {}
  CodecNeeds needs() const override { return {.sample = true, .whole = true}; }

  // Twice: with the whole images as they are, to learn the noise; then with what will be decoded of them.
  TensorMap fit(const FitSample& sample) const override {
    const RecordContext rows = joined(sample.contexts);
    const at::Tensor x = centred(sample.answers.logits), whole = centred(sample.whole.logits);
    check_images(rows, whole.size(0));
    const at::Tensor varied = x - x.mean(0, /*keepdim=*/true);
    KltTarget target = parameter_.target(sample.contexts);
    target.least = kLeastNoise * (varied * varied).sum(1).mean().item<double>();
    at::Tensor gain;
    const auto residual = [&](const at::Tensor& base) {
      gain = fit_gain(varied, base.index_select(0, rows.image), base.index_select(0, rows.partner), bin_of(rows));
      return x - predicted(base, gain, rows);
    };
    const double theta = fit_klt(residual(whole - whole.mean(0, /*keepdim=*/true)), target).theta;
    const KltFit base = fit_klt(whole, {KltGoal::Noise, kBaseNoise * theta, 0});
    TensorMap basis;
    for (const auto& [name, tensor] : base.tensors) basis[kBase + name] = tensor;
    const Klt coder(basis, kBase, sample.classes, at::kCPU, "delta");
    const DitherKey key = base_key(whole.size(0));
    const at::Tensor blob = coder.encode(whole, key);
    basis.merge(fit_klt(residual(coder.transform(coder.coefficients(blob, key))), target).tensors);
    basis["gain"] = gain;
    basis["base.blob"] = blob;
    basis["base.images"] = at::full({1}, whole.size(0), at::kInt);
    return basis;
  }

  void bind(const TensorMap& basis, int64_t classes, const at::Device& device) override {
    views_ = std::make_unique<Klt>(basis, "", classes, device, "delta");
    base_ = std::make_unique<Klt>(basis, kBase, classes, device, "delta");
    gain_ = basis_part(basis, "gain", at::kFloat, {kBins + 1, 2}, "delta");
    LPLD_CHECK(gain_.abs().le(kMostGain).all().item<bool>(), Mismatch, "delta: expected gains within 100");
    const at::Tensor& blob = basis_part(basis, "base.blob", at::kByte, {-1}, "delta");
    const int64_t images = basis_part(basis, "base.images", at::kInt, {1}, "delta").item<int32_t>();
    LPLD_CHECK(images >= 0 && images * std::max<int64_t>(1, base_->kept()) <= kMostBase, Mismatch,
               "delta: expected base.images between 0 and ", kMostBase, " coefficients, received ", images);
    coefficients_ = base_->coefficients(blob, base_key(images)).contiguous();
  }

  Encoded encode(const Answer& answer, const RecordContext& context) const override {
    return {{}, views_->encode(centred(answer.logits) - prediction(context).cpu(), key(context))};
  }

  at::Tensor decode(const Encoded& record, const RecordContext& context) const override {
    const at::Tensor coefficients = views_->coefficients(blob_of(record, "delta"), key(context));
    return (views_->transform(coefficients) + views_->mean() + prediction(context)).to(at::kFloat);
  }

 private:
  static DitherKey key(const RecordContext& c) { return {c.seed, uint32_t(c.record), c.image}; }
  at::Tensor prediction(const RecordContext& context) const {  // double [n, K] on the device
    check_images(context, coefficients_.size(0));
    return base_->transform(predicted(coefficients_, gain_, context));
  }

  KltParameter parameter_;
  std::unique_ptr<Klt> views_, base_;
  at::Tensor gain_;          // float [17, 2]
  at::Tensor coefficients_;  // float [images, m] on the CPU, of the whole images
};
}  // namespace

std::unique_ptr<Codec> make_delta(const std::string& name) {
  if (name != "delta" && !name.starts_with("delta:")) return nullptr;
  return std::make_unique<Delta>(parse_klt(name, "delta"));
}

}  // namespace lpld
