#pragma once
// klt: rows of numbers through the Karhunen-Loeve transform of a sample, a dithered quantiser and an entropy coder.
//   c = V (row - mean)      V [m, K] orthonormal but for its rounding, in float64
//   q = floor(c / step + u) u of Philox purpose 6, object = image, view = record id, element = coefficient
//   row' = mean + V^T ((q + 1/2 - u) * step)
// The error of a kept coefficient is uniform in (-step/2, step/2] and independent of it and of other views of the image.
// A record is one stream (coefficient_coder.h); a basis that keeps nothing writes empty ones.
// `klt:B` and `klt:mse=D` are this on centred logits (each row less its mean: softmax does not see it), fitted so that
// the sample takes B bytes a row, or that the mean squared error per class is D. delta.h puts a prediction before it.
// Sources: reverse water-filling, Cover and Thomas 10.3.3; dither, Schuchman 1964.
#include "codecs/codec.h"
#include "codecs/coefficient_coder.h"
#include "codecs/klt_fit.h"

namespace lpld {

// Whose dither: one key per row and one for all of them.
struct DitherKey {
  uint64_t seed;
  uint32_t view;
  at::Tensor object;  // int64 [n]
};

// `mean` and `vectors` of a basis. Throws E_MISMATCH unless they are there and sound.
class Transform {
 public:
  Transform(const TensorMap& basis, int64_t classes, const at::Device& device, const std::string& codec);
  int64_t count() const { return columns_.size(1); }
  const at::Tensor& mean() const { return mean_; }  // double [K] on the CPU
  // double [n, K] on the CPU -> double [n, count], along the first vectors.
  at::Tensor project(const at::Tensor& rows, int64_t count) const;
  // [n, m] with m <= count() -> double [n, K] on the device: the mean and the sum of the first m vectors.
  at::Tensor expand(const at::Tensor& coefficients) const;

 private:
  at::Device device_;
  at::Tensor mean_, columns_;         // double [K], [K, M] on the CPU
  at::Tensor device_mean_, vectors_;  // double [K], [M, K] on the device
};

// A step and the models of at most `most` coefficients (coefficient_coder.h); throws E_MISMATCH unless both are sound.
class Quantiser {
 public:
  Quantiser(float step, const at::Tensor& models, int64_t most, const std::string& codec);
  int64_t count() const { return coder_.count(); }
  // double [n, count] -> uint8 [bytes], nothing for what is left out. Throws E_DIVERGED for coefficients too far from the
  // sample's.
  at::Tensor encode(const at::Tensor& coefficients, const DitherKey& key) const;
  // uint8 [bytes] -> float [n, count] on the CPU, equal on every machine; 0 for what is left out. Throws E_DATA for damaged
  // bytes.
  at::Tensor decode(const at::Tensor& blob, const DitherKey& key) const;

 private:
  std::string codec_;
  CoefficientCoder coder_;
  float step_;
};

// What stands behind the colon: bytes per row, or mse=D. Throws E_CONFIG for anything else.
struct KltParameter {
  KltGoal goal;
  double value;  // bytes or mean squared error
  // The target of a fit to these records: the bytes a stream begins with are shared by its rows.
  KltTarget target(const std::vector<RecordContext>& records) const;
};
KltParameter parse_klt(const std::string& name, const std::string& kind);

// A tensor of a basis; throws E_MISMATCH unless it has this dtype and shape, -1 standing for any size.
const at::Tensor& basis_part(const TensorMap& basis, const std::string& name, at::ScalarType dtype,
                             at::IntArrayRef shape, const std::string& codec);
at::Tensor models_part(const TensorMap& basis, const std::string& name, const std::string& codec);  // uint8 [c, 3]
at::Tensor centred(const at::Tensor& logits);                         // [n, K] -> double, each row less its mean
const at::Tensor& blob_of(const Encoded& record, const char* codec);  // throws E_MISMATCH where there is none
DitherKey dither_of(const RecordContext& context);                    // of a record's rows

std::unique_ptr<Codec> make_klt(const std::string& name);  // null for a name of another codec

}  // namespace lpld
