// The prediction of delta.h: its fit in two passes, and both directions. Predictions are coefficients of the whole images,
// [n, M] rather than [n, K], decoded once when the basis is bound: what is kept is 4 M bytes an image, whatever K is, and
// a row's prediction and residual go through one product.
#include "codecs/delta.h"

#include "codecs/klt.h"
#include "core/aten.h"

namespace lpld {

namespace {
constexpr int64_t kBins = 16;  // of the share; one more where nothing is mixed
// theta of the whole images / theta of the views. Finer costs bytes once, coarser with every view: of 1/8 to 1/3, 1/6 is within
// 1 % of the best both at 30 and at 600 records of 10 classes.
constexpr double kBaseNoise = 1.0 / 6;
constexpr double kHalves = 0x1p-25;  // mean square of what rounding to halves loses / mean square of a logit
constexpr uint32_t kBaseView = 0xffffffff;
constexpr int64_t kMostBase = 1 << 28;  // numbers of all whole images: one GiB
constexpr double kMostGain = 100;       // of what a basis may hold; a share of an answer is about 1
constexpr const char* kName = "delta";

DitherKey base_key(int64_t images) { return {0, kBaseView, at::arange(images, at::kLong)}; }

// Which gains a row takes: int64 [n].
at::Tensor bin_of(const RecordContext& c) {
  const at::Tensor share = c.share.to(at::kDouble).contiguous();
  const at::Tensor image = c.image.contiguous(), partner = c.partner.contiguous();
  at::Tensor bin = at::empty_like(image);
  int64_t* out = bin.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < bin.size(0); ++row) {
    const double part = std::floor(share.const_data_ptr<double>()[row] * double(kBins));
    const bool alone = image.const_data_ptr<int64_t>()[row] == partner.const_data_ptr<int64_t>()[row];
    out[row] = alone ? kBins : part > 0 ? int64_t(std::min(part, double(kBins - 1))) : 0;
  }
  return bin;
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
  for (const at::Tensor& list : {c.image.contiguous(), c.partner.contiguous()}) {
    const int64_t *first = list.const_data_ptr<int64_t>(), *end = first + list.size(0);
    LPLD_CHECK(std::all_of(first, end, [&](int64_t image) { return image >= 0 && image < images; }), Mismatch,
               "delta: expected images below ", images, ", those whose whole answers are in the basis");
  }
}

// Least squares of x on g0 own + g1 partner per bin, drawn towards (share, 1 - share) with the weight of one row.
at::Tensor fit_gain(const at::Tensor& x, const at::Tensor& own, const at::Tensor& partner, const at::Tensor& bin) {
  const auto dot = [](const at::Tensor& a, const at::Tensor& b) { return (a * b).sum(1).contiguous(); };
  const at::Tensor parts =
      at::stack({dot(own, own), dot(own, partner), dot(partner, partner), dot(own, x), dot(partner, x)}, 1);  // [N, 5]
  const at::Tensor sums = at::zeros({kBins + 1, 5}, at::kDouble).index_add_(0, bin, parts);
  const double row = std::max(1e-30, parts.select(1, 0).mean().item<double>());
  at::Tensor gain = at::empty({kBins + 1, 2}, at::kDouble);
  double* g = gain.mutable_data_ptr<double>();
  for (int64_t i = 0; i <= kBins; ++i) {
    const double* s = sums.const_data_ptr<double>() + 5 * i;
    const bool whole = i == kBins;
    const double share = whole ? 1 : (double(i) + 0.5) / double(kBins);
    const double a = s[0] + row, b = whole ? 0 : s[1], c = (whole ? 0 : s[2]) + row;
    const double y0 = s[3] + row * share, y1 = whole ? 0 : s[4] + row * (1 - share);
    const double own_gain = (y0 * c - y1 * b) / (a * c - b * b), partner_gain = (y1 * a - y0 * b) / (a * c - b * b);
    g[2 * i] = std::clamp(own_gain, -kMostGain, kMostGain);
    g[2 * i + 1] = std::clamp(partner_gain, -kMostGain, kMostGain);
  }
  return gain.to(at::kHalf);  // what is rounded off is part of what the views code
}

// As theta: what dense:f16 loses. Where whole images say all of a view, nothing else ends the search for a noise at which it
// costs the bytes asked for.
double least_noise(const at::Tensor& rows) { return kHalves * power(rows) / double(rows.size(1)); }

// What is predicted of rows, in whatever form the whole images are given: T [images, D] -> double [n, D]. A loop, because a
// record of few classes is less work than the starting of as many operations.
template <class T>
at::Tensor predicted(const at::Tensor& whole, const at::Tensor& gain, const RecordContext& c) {
  const at::Tensor all = whole.contiguous(), g = gain.to(at::kDouble), bins = bin_of(c);
  const at::Tensor image = c.image.contiguous(), partner = c.partner.contiguous();
  const int64_t size = all.size(1);
  at::Tensor sum = at::empty({image.size(0), size}, at::kDouble);
  double* out = sum.mutable_data_ptr<double>();
  for (int64_t row = 0; row < image.size(0); ++row, out += size) {
    const double* own_gain = g.const_data_ptr<double>() + 2 * bins.const_data_ptr<int64_t>()[row];
    const T* own = all.const_data_ptr<T>() + size * image.const_data_ptr<int64_t>()[row];
    const T* other = all.const_data_ptr<T>() + size * partner.const_data_ptr<int64_t>()[row];
    for (int64_t j = 0; j < size; ++j) out[j] = own_gain[0] * double(own[j]) + own_gain[1] * double(other[j]);
  }
  return sum;
}

// The whole images in a basis, and as they are decoded from it.
struct ImagesFit {
  at::Tensor all;  // double [M, K]: vectors, those of the views first
  int64_t views;   // how many of them the views may take: they are orthonormal
  float step;
  at::Tensor vectors, models, blob;  // of the basis
  at::Tensor decoded;                // [images, K], less their mean
  size_t bytes() const { return vectors.nbytes() + models.nbytes() + blob.nbytes(); }
};

// `images` [images, K] at their noise; `residual` has `error` at its own, in the vectors `views`. Shared: the images take
// those vectors, and others for what sticks out of them by more than the noise. Otherwise they have vectors of their own.
ImagesFit fit_images(const at::Tensor& images, const at::Tensor& residual, const at::Tensor& views, double error,
                     double noise, bool shared) {
  const int64_t m = views.size(0);
  const at::Tensor rest = shared ? images - images.mm(views.t()).mm(views) : images, own = eigenbasis(rest);
  const at::Tensor added = own.narrow(0, 0, worth_keeping(rest, own, noise)), all = at::cat({views, added});
  const at::Tensor along = strength(residual, views),
                   load = shared ? at::maximum(along, strength(images, views)) : along;
  const at::Tensor vectors = stored_vectors(all, at::cat({load, strength(images, added)}), error);
  const QuantiserFit fit = fit_quantiser_at(images, all, noise, shared ? 0 : m);
  const int64_t classes = images.size(1), count = all.size(0);
  const Transform transform({{"vectors", vectors}, {"mean", at::zeros({classes}, at::kFloat)}}, classes, at::kCPU,
                            kName);
  const Quantiser quantiser(fit.step, fit.models, count, kName);
  const DitherKey key = base_key(images.size(0));
  const at::Tensor blob = quantiser.encode(transform.project(images, count), key);
  return {all, shared ? count : m, fit.step, vectors, fit.models, blob, transform.expand(quantiser.decode(blob, key))};
}

class Delta final : public Codec {
 public:
  explicit Delta(KltParameter parameter) : parameter_(parameter) {}
  CodecNeeds needs() const override { return {.sample = true, .whole = true}; }

  // Vectors and noise twice: for a prediction from the whole images as they are, then from what is decoded of them.
  TensorMap fit(const FitSample& sample) const override {
    const RecordContext rows = joined(sample.contexts);
    const at::Tensor x = checked_sample(centred(sample.answers.logits));
    const at::Tensor whole = checked_sample(centred(sample.whole.logits));
    check_images(rows, whole.size(0));
    const at::Tensor varied = x - x.mean(0, /*keepdim=*/true), images = whole - whole.mean(0, /*keepdim=*/true);
    KltTarget target = parameter_.target(sample.contexts);
    target.least = least_noise(x);
    at::Tensor gain, mean;
    const auto residual = [&](const at::Tensor& decoded) {
      gain = fit_gain(varied, decoded.index_select(0, rows.image), decoded.index_select(0, rows.partner), bin_of(rows));
      const at::Tensor rest = x - predicted<double>(decoded, gain, rows);
      mean = rest.mean(0).to(at::kFloat);
      return rest - mean.to(at::kDouble);
    };
    ImagesFit base;
    base.decoded = images;
    for (int pass = 0; pass < 2; ++pass) {
      const at::Tensor rest = residual(base.decoded), all = eigenbasis(rest);
      const QuantiserFit views = fit_quantiser(rest, all, target);
      const at::Tensor kept = all.narrow(0, 0, views.kept);
      const double noise = std::max(kBaseNoise * views.theta, least_noise(whole));
      base = fit_images(images, rest, kept, views.error, noise, /*shared=*/true);
      ImagesFit own = fit_images(images, rest, kept, views.error, noise, /*shared=*/false);
      if (own.bytes() < base.bytes()) base = std::move(own);
      // The vectors are settled now: where they no longer reach the error asked for, finer steps would not either.
      if (pass == 1) target.least = std::max(target.least, views.theta / 2);
    }
    const at::Tensor rest = residual(base.decoded);
    const QuantiserFit views = fit_quantiser(rest, base.all.narrow(0, 0, base.views), target);
    return {{"mean", mean},
            {"vectors", base.vectors},
            {"step", at::tensor(std::vector<float>{views.step, base.step}, at::kFloat)},
            {"model", views.models},
            {"gain", gain},
            {"base.model", base.models},
            {"base.images", at::full({1}, whole.size(0), at::kInt)},
            {"base.blob", base.blob}};
  }

  void bind(const TensorMap& basis, int64_t classes, const at::Device& device) override {
    transform_ = std::make_unique<Transform>(basis, classes, device, kName);
    const int64_t most = transform_->count();
    const at::Tensor step = basis_part(basis, "step", at::kFloat, {2}, kName);
    views_ = std::make_unique<Quantiser>(step[0].item<float>(), models_part(basis, "model", kName), most, kName);
    const Quantiser base(step[1].item<float>(), models_part(basis, "base.model", kName), most, kName);
    gain_ = basis_part(basis, "gain", at::kHalf, {kBins + 1, 2}, kName);
    LPLD_CHECK(gain_.abs().le(kMostGain).all().item<bool>(), Mismatch, "delta: expected gains within 100");
    LPLD_CHECK(base.count() == most, Mismatch, "delta: expected base.model of ", most,
               " coefficients, one for a vector, received ", base.count());
    const at::Tensor& blob = basis_part(basis, "base.blob", at::kByte, {-1}, kName);
    const int64_t images = basis_part(basis, "base.images", at::kInt, {1}, kName).item<int32_t>();
    LPLD_CHECK(images >= 0 && images * std::max<int64_t>(1, base.count()) <= kMostBase, Mismatch,
               "delta: expected base.images between 0 and ", kMostBase, " coefficients, received ", images);
    base_ = base.decode(blob, base_key(images)).contiguous();
  }

  Encoded encode(const Answer& answer, const RecordContext& context) const override {
    const at::Tensor rest = centred(answer.logits) - transform_->expand(prediction(context)).cpu();
    return {{}, views_->encode(transform_->project(rest, views_->count()), dither_of(context))};
  }

  at::Tensor decode(const Encoded& record, const RecordContext& context) const override {
    const at::Tensor sum = prediction(context);
    sum.narrow(1, 0, views_->count()).add_(views_->decode(blob_of(record, kName), dither_of(context)));
    return transform_->expand(sum).to(at::kFloat);
  }

 private:
  at::Tensor prediction(const RecordContext& context) const {  // double [n, M] on the CPU
    check_images(context, base_.size(0));
    return predicted<float>(base_, gain_, context);
  }

  KltParameter parameter_;
  std::unique_ptr<Transform> transform_;
  std::unique_ptr<Quantiser> views_;
  at::Tensor gain_;  // half [17, 2]
  at::Tensor base_;  // float [images, M] on the CPU: coefficients of the whole images
};
}  // namespace

std::unique_ptr<Codec> make_delta(const std::string& name) {
  if (name != "delta" && !name.starts_with("delta:")) return nullptr;
  return std::make_unique<Delta>(parse_klt(name, kName));
}

}  // namespace lpld
