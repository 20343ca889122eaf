// The transform, dither and quantiser of klt.h, and the codec that is nothing else. Every tensor of a basis is checked here,
// once, when it is bound: what decodes may trust shapes, models and magnitudes.
#include "codecs/klt.h"

#include <charconv>

#include "core/aten.h"
#include "core/philox.h"

namespace lpld {

const at::Tensor& basis_part(const TensorMap& basis, const std::string& name, at::ScalarType dtype,
                             at::IntArrayRef shape, const std::string& codec) {
  const auto found = basis.find(name);
  bool fits =
      found != basis.end() && found->second.scalar_type() == dtype && found->second.dim() == int64_t(shape.size());
  for (size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] < 0 || found->second.size(int64_t(i)) == shape[i];
  LPLD_CHECK(fits, Mismatch, codec, ": expected ", name, " ", c10::toString(dtype), " ", shape,
             " in the basis (-1: any)");
  return found->second;
}

namespace {
constexpr uint32_t kDitherPurpose = 6;
constexpr double kMostSteps = double(1 << 29);
constexpr double kStateBytes = 4;
constexpr double kRounding = 1e-14;  // of the power of the rows: more than what rounding their mean to float32 leaves

// u as whole 2^-24ths, [m, n].
std::vector<uint32_t> dither(const DitherKey& key, int64_t count) {
  const int64_t n = key.object.size(0);
  const at::Tensor objects = key.object.contiguous();
  std::vector<uint32_t> u(size_t(count * n));
  for (int64_t row = 0; row < n; ++row) {
    const Philox stream{key.seed, kDitherPurpose, uint32_t(objects.const_data_ptr<int64_t>()[row]), key.view};
    for (int64_t i = 0; i < count; i += 4) {
      const auto words = stream.words(uint32_t(i >> 2));
      for (int64_t lane = 0; lane < 4 && i + lane < count; ++lane) u[(i + lane) * n + row] = words[lane] >> 8;
    }
  }
  return u;
}

// double [M, K]: halves as they are, signed bytes as directions of length 1.
at::Tensor vectors_of(const TensorMap& basis, int64_t classes, const std::string& codec) {
  LPLD_CHECK(
      !basis.contains("frequency"), Mismatch, codec,
      ": expected a basis with densities but received one with the tables of an earlier version; relabel makes the "
      "labels again");
  const auto found = basis.find("vectors");
  const bool bytes = found != basis.end() && found->second.scalar_type() == at::kChar;
  const at::Tensor& stored = basis_part(basis, "vectors", bytes ? at::kChar : at::kHalf, {-1, classes}, codec);
  LPLD_CHECK(stored.size(0) <= 2 * classes, Mismatch, codec, ": expected at most ", 2 * classes,
             " vectors in the basis, received ", stored.size(0));
  const at::Tensor rows = stored.to(at::kDouble);
  const at::Tensor out = bytes ? rows / at::linalg_vector_norm(rows, 2, at::IntArrayRef{1}, /*keepdim=*/true) : rows;
  LPLD_CHECK(at::isfinite(out).all().item<bool>(), Mismatch, codec,
             ": expected finite vectors in the basis, none zero");
  return out;
}
}  // namespace

Transform::Transform(const TensorMap& basis, int64_t classes, const at::Device& device, const std::string& codec)
    : device_(device) {
  const at::Tensor rows = vectors_of(basis, classes, codec);
  const at::Tensor& stored = basis_part(basis, "mean", at::kFloat, {classes}, codec);
  LPLD_CHECK(stored.abs().le(kMostLogit).all().item<bool>(), Mismatch, codec,
             ": expected a mean within 1e12 in the basis");
  mean_ = stored.to(at::kDouble);
  columns_ = rows.t().contiguous();
  device_mean_ = mean_.to(device);
  vectors_ = rows.to(device);
}

at::Tensor Transform::project(const at::Tensor& rows, int64_t count) const {
  return rows.mm(columns_.narrow(1, 0, count));
}

at::Tensor Transform::expand(const at::Tensor& coefficients) const {
  const at::Tensor wide = coefficients.to(device_).to(at::kDouble);
  const at::Tensor sum = wide.mm(vectors_.narrow(0, 0, wide.size(1)));  // float64: a job's precision does not touch it
  return sum + device_mean_;
}

Quantiser::Quantiser(float step, const at::Tensor& models, int64_t most, const std::string& codec)
    : codec_(codec), coder_(models, codec), step_(step) {
  LPLD_CHECK(step > 0 && step <= kMostLogit, Mismatch, codec,
             ": expected a step above 0 and at most 1e12 in the basis, received ", step);
  LPLD_CHECK(count() <= most, Mismatch, codec, ": expected models of at most ", most,
             " coefficients in the basis, one for a vector, received ", count());
}

at::Tensor Quantiser::encode(const at::Tensor& coefficients, const DitherKey& key) const {
  const int64_t n = coefficients.size(0), m = count();
  if (m == 0 || n == 0) return at::empty({0}, at::kByte);
  const at::Tensor steps = (coefficients / double(step_)).t().contiguous();  // [m, n]
  const auto u = dither(key, m);
  std::vector<int32_t> q(u.size());
  const double* t = steps.const_data_ptr<double>();
  for (size_t i = 0; i < q.size(); ++i) {
    LPLD_CHECK(std::abs(t[i]) < kMostSteps, Diverged, codec_,
               ": expected finite logits within 2^29 steps of those the basis was fitted to, received ", t[i],
               " steps");
    q[i] = int32_t(std::floor(t[i] + double(u[i]) * 0x1p-24));
  }
  const auto bytes = coder_.encode(q.data(), u.data(), n);
  at::Tensor blob = at::empty({int64_t(bytes.size())}, at::kByte);
  std::copy(bytes.begin(), bytes.end(), blob.mutable_data_ptr<uint8_t>());
  return blob;
}

at::Tensor Quantiser::decode(const at::Tensor& blob, const DitherKey& key) const {
  const int64_t n = key.object.size(0), m = count();
  at::Tensor out = at::zeros({m, n}, at::kFloat);
  if (m == 0 || n == 0) {
    LPLD_CHECK(blob.size(0) == 0, Data, codec_, ": expected no bytes for a record, received ", blob.size(0));
    return out.t();
  }
  const auto u = dither(key, m);
  std::vector<int32_t> q(u.size());
  coder_.decode(blob.const_data_ptr<uint8_t>(), blob.size(0), u.data(), n, q.data());
  for (int64_t j = 0; j < m; ++j) {
    if (!coder_.is_coded(j)) continue;
    float* c = out.mutable_data_ptr<float>() + j * n;
    for (int64_t i = 0; i < n; ++i)  // exact in double up to the product, which is rounded to double and to float
      c[i] = float((double(q[j * n + i]) + 0.5 - double(u[j * n + i]) * 0x1p-24) * double(step_));
  }
  return out.t();
}

KltTarget KltParameter::target(const std::vector<RecordContext>& records) const {
  if (goal != KltGoal::Bits) return {goal, value, 0};
  int64_t rows = 0;
  for (const auto& record : records) rows += record.image.size(0);
  return {goal, 8 * (value - kStateBytes * double(records.size()) / double(std::max<int64_t>(1, rows))), 0};
}

KltParameter parse_klt(const std::string& name, const std::string& kind) {
  const std::string colon = kind + ":", mse = colon + "mse=";
  const bool by_error = name.starts_with(mse);
  const char* first = name.data() + std::min(name.size(), (by_error ? mse : colon).size());
  const char* last = name.data() + name.size();
  double value = 0;
  const auto [end, problem] = std::from_chars(first, last, value, std::chars_format::fixed);
  const bool fits = problem == std::errc() && end == last && value > 0 && value <= 1e6;
  LPLD_CHECK(fits, Config, "expected ", kind, ":BYTES (per row) or ", kind,
             ":mse=ERROR (per class), above 0 and at most 1e6, for codec but received \"", name, "\"");
  return {by_error ? KltGoal::Mse : KltGoal::Bits, value};
}

at::Tensor models_part(const TensorMap& basis, const std::string& name, const std::string& codec) {
  return basis_part(basis, name, at::kByte, {-1, 3}, codec);
}

at::Tensor centred(const at::Tensor& logits) {
  const at::Tensor wide = logits.to(at::kDouble);
  return wide - wide.mean(at::IntArrayRef{1}, /*keepdim=*/true);
}

const at::Tensor& blob_of(const Encoded& record, const char* codec) {
  LPLD_CHECK(record.blob.defined(), Mismatch, codec, ": expected a run of bytes per record, received none");
  return record.blob;
}

DitherKey dither_of(const RecordContext& context) { return {context.seed, uint32_t(context.record), context.image}; }

namespace {
class KltCodec final : public Codec {
 public:
  explicit KltCodec(KltParameter parameter) : parameter_(parameter) {}
  CodecNeeds needs() const override { return {.sample = true}; }

  TensorMap fit(const FitSample& sample) const override {
    const at::Tensor rows = checked_sample(centred(sample.answers.logits));
    const at::Tensor mean = rows.mean(0).to(at::kFloat), x = rows - mean.to(at::kDouble);
    const at::Tensor vectors = eigenbasis(x);
    KltTarget target = parameter_.target(sample.contexts);
    target.least = kRounding * power(rows);
    const QuantiserFit fit = fit_quantiser(x, vectors, target);
    const at::Tensor kept = vectors.narrow(0, 0, fit.kept);
    return {{"mean", mean},
            {"vectors", stored_vectors(kept, strength(x, kept), fit.error)},
            {"step", at::full({1}, fit.step, at::kFloat)},
            {"model", fit.models}};
  }

  void bind(const TensorMap& basis, int64_t classes, const at::Device& device) override {
    transform_ = std::make_unique<Transform>(basis, classes, device, "klt");
    const float step = basis_part(basis, "step", at::kFloat, {1}, "klt").item<float>();
    quantiser_ = std::make_unique<Quantiser>(step, models_part(basis, "model", "klt"), transform_->count(), "klt");
  }

  Encoded encode(const Answer& answer, const RecordContext& context) const override {
    const at::Tensor rows = centred(answer.logits) - transform_->mean();
    return {{}, quantiser_->encode(transform_->project(rows, quantiser_->count()), dither_of(context))};
  }

  at::Tensor decode(const Encoded& record, const RecordContext& context) const override {
    return transform_->expand(quantiser_->decode(blob_of(record, "klt"), dither_of(context))).to(at::kFloat);
  }

 private:
  KltParameter parameter_;
  std::unique_ptr<Transform> transform_;
  std::unique_ptr<Quantiser> quantiser_;
};
}  // namespace

std::unique_ptr<Codec> make_klt(const std::string& name) {
  if (name != "klt" && !name.starts_with("klt:")) return nullptr;
  return std::make_unique<KltCodec>(parse_klt(name, "klt"));
}

}  // namespace lpld
