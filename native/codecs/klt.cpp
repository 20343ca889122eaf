// The transform, dither and quantiser of klt.h, and the codec that is nothing else. Every tensor of a basis is checked here,
// once, when it is bound: what decodes may trust shapes, tables and magnitudes.
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

// Vectors are looked at first: a coefficient of a few bytes unfolds into tables of thousands.
TableTensors tables_of(const TensorMap& basis, const std::string& prefix, int64_t classes, const std::string& codec) {
  const at::Tensor& rows = basis_part(basis, prefix + "coefficient", at::kInt, {-1, 3}, codec);
  basis_part(basis, prefix + "vectors", at::kHalf, {rows.size(0), classes}, codec);
  LPLD_CHECK(rows.size(0) <= classes, Mismatch, codec, ": expected at most ", classes,
             " coefficients in the basis, received ", rows.size(0));
  return {rows, basis_part(basis, prefix + "frequency", at::kShort, {-1}, codec)};
}

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
}  // namespace

Klt::Klt(const TensorMap& basis, const std::string& prefix, int64_t classes, const at::Device& device,
         const std::string& codec)
    : codec_(codec), tables_(tables_of(basis, prefix, classes, codec), codec), device_(device) {
  const at::Tensor& mean = basis_part(basis, prefix + "mean", at::kFloat, {classes}, codec);
  const at::Tensor& vectors = basis_part(basis, prefix + "vectors", at::kHalf, {kept(), classes}, codec);
  const at::Tensor& step = basis_part(basis, prefix + "step", at::kFloat, {1}, codec);
  step_ = step.item<float>();
  const bool sound = step_ > 0 && step_ <= kMostLogit && mean.abs().le(kMostLogit).all().item<bool>() &&
                     at::isfinite(vectors).all().item<bool>();
  LPLD_CHECK(sound, Mismatch, codec, ": expected numbers within 1e12 and a step above 0 in the basis");
  host_mean_ = mean.to(at::kDouble);
  const at::Tensor rows = vectors.to(at::kDouble);
  columns_ = rows.t().contiguous();
  mean_ = host_mean_.to(device);
  vectors_ = rows.to(device);
}

at::Tensor Klt::encode(const at::Tensor& rows, const DitherKey& key) const {
  const int64_t n = rows.size(0), m = kept();
  if (m == 0 || n == 0) return at::empty({0}, at::kByte);
  const at::Tensor steps = ((rows - host_mean_).mm(columns_) / double(step_)).t().contiguous();  // [m, n]
  const auto u = dither(key, m);
  std::vector<int32_t> q(u.size());
  const double* t = steps.const_data_ptr<double>();
  for (size_t i = 0; i < q.size(); ++i) {
    LPLD_CHECK(std::abs(t[i]) < kMostSteps, Diverged, codec_,
               ": expected finite logits within 2^29 steps of those the basis was fitted to, received ", t[i],
               " steps");
    q[i] = int32_t(std::floor(t[i] + double(u[i]) * 0x1p-24));
  }
  const auto bytes = tables_.encode(q.data(), u.data(), n);
  at::Tensor blob = at::empty({int64_t(bytes.size())}, at::kByte);
  std::copy(bytes.begin(), bytes.end(), blob.mutable_data_ptr<uint8_t>());
  return blob;
}

at::Tensor Klt::coefficients(const at::Tensor& blob, const DitherKey& key) const {
  const int64_t n = key.object.size(0), m = kept();
  at::Tensor out = at::empty({m, n}, at::kFloat);
  if (m == 0 || n == 0) {
    LPLD_CHECK(blob.size(0) == 0, Data, codec_, ": expected no bytes for a record, received ", blob.size(0));
    return out.t();
  }
  const auto u = dither(key, m);
  std::vector<int32_t> q(u.size());
  tables_.decode(blob.const_data_ptr<uint8_t>(), blob.size(0), u.data(), n, q.data());
  float* c = out.mutable_data_ptr<float>();
  for (size_t i = 0; i < q.size(); ++i)  // exact in double up to the product, which is rounded to double and to float
    c[i] = float((double(q[i]) + 0.5 - double(u[i]) * 0x1p-24) * double(step_));
  return out.t();
}

at::Tensor Klt::transform(const at::Tensor& coefficients) const {
  return coefficients.to(device_).to(at::kDouble).mm(vectors_);  // float64: no setting of a job's precision touches it
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

at::Tensor centred(const at::Tensor& logits) {
  const at::Tensor wide = logits.to(at::kDouble);
  return wide - wide.mean(at::IntArrayRef{1}, /*keepdim=*/true);
}

const at::Tensor& blob_of(const Encoded& record, const char* codec) {
  LPLD_CHECK(record.blob.defined(), Mismatch, codec, ": expected a run of bytes per record, received none");
  return record.blob;
}

namespace {
class KltCodec final : public Codec {
 public:
  explicit KltCodec(KltParameter parameter) : parameter_(parameter) {}
  CodecNeeds needs() const override { return {.sample = true}; }
  TensorMap fit(const FitSample& sample) const override {
    return fit_klt(centred(sample.answers.logits), parameter_.target(sample.contexts)).tensors;
  }
  void bind(const TensorMap& basis, int64_t classes, const at::Device& device) override {
    klt_ = std::make_unique<Klt>(basis, "", classes, device, "klt");
  }
  Encoded encode(const Answer& answer, const RecordContext& context) const override {
    return {{}, klt_->encode(centred(answer.logits), key(context))};
  }
  at::Tensor decode(const Encoded& record, const RecordContext& context) const override {
    const at::Tensor coefficients = klt_->coefficients(blob_of(record, "klt"), key(context));
    return (klt_->transform(coefficients) + klt_->mean()).to(at::kFloat);
  }

 private:
  static DitherKey key(const RecordContext& c) { return {c.seed, uint32_t(c.record), c.image}; }
  KltParameter parameter_;
  std::unique_ptr<Klt> klt_;
};
}  // namespace

std::unique_ptr<Codec> make_klt(const std::string& name) {
  if (name != "klt" && !name.starts_with("klt:")) return nullptr;
  return std::make_unique<KltCodec>(parse_klt(name, "klt"));
}

}  // namespace lpld
