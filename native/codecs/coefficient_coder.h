#pragma once
// coefficient_coder: dithered whole numbers <-> bytes. A coefficient of t steps becomes q = floor(t + u) and is read as
// q + 1/2 - u, u in [0, 1) being known to both sides (subtractive dither: the error is uniform in (-1/2, 1/2] and tells
// nothing of t). What is known of t is a mixture of Gaussians, three bytes each. Since u is known, q has the probability of
// t in [q - u, q + 1 - u): a table for every u, never written down.
//   symbol    (q >> shift) - first, then the low `shift` bits of q; shift keeps an alphabet at 64 symbols or fewer
//   escape    the symbol after the last; then 5 bits L and the L - 1 bits under the leading one of 2q or -2q - 1 (zigzag)
// Integers only: what is decoded is equal on every machine.
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codecs/gaussian_mixture.h"
#include "codecs/rans.h"

namespace lpld {

constexpr int kDitherBits = 24;  // u = word * 2^-24

// One Gaussian in cells of an eighth of its deviation: its share in 256ths, 0 for what is left, which ends the mixture; how
// wide a cell is, (8 + width % 8) 2^(width / 8 - 10) steps; how many cells its mean lies above -128 of them.
struct GaussianBytes {
  uint8_t share, width, centre;
};
constexpr uint8_t kMostWidth = 223;           // beyond it symbols would leave 32 bits
constexpr GaussianBytes kLeftOut{0, 255, 0};  // in the place of a mixture: the coefficient is 0 and has no symbols

// Where the symbols of a coefficient begin.
class CoefficientModel {
 public:
  explicit CoefficientModel(const std::vector<GaussianBytes>& mixture);

  int64_t count() const { return count_; }  // symbols besides the escape
  int shift() const { return shift_; }
  int64_t symbol_of(int32_t q) const {  // the escape for a number that has none
    const int64_t symbol = (q >> shift_) - first_;
    return symbol < 0 ? count_ : std::min(symbol, count_);
  }
  int32_t whole(int64_t symbol, uint32_t low) const { return int32_t(((first_ + symbol) << shift_) | int64_t(low)); }
  // First slot of a symbol, of the escape (symbol = count) and of nothing (count + 1) where the dither is u.
  uint32_t start(int64_t symbol, uint32_t u) const {
    if (symbol <= 0) return 0;
    if (symbol >= count_) return kRansTotal - uint32_t(symbol == count_);
    const uint64_t at = (uint64_t(symbol) << kDitherBits) - (u >> shift_), cell = at >> kCellBits;
    const uint64_t low = below_[cell], part = at & ((uint64_t{1} << kCellBits) - 1);
    return uint32_t(uint64_t(symbol) + ((low + (((below_[cell + 1] - low) * part) >> kCellBits)) >> kPartBits));
  }
  struct Found {
    int64_t symbol;
    uint32_t start, end;
  };
  Found find(uint32_t slot, uint32_t u) const;  // whose interval holds the slot

 private:
  static constexpr int kCellBits = kDitherBits - 3, kPartBits = 10;
  static constexpr int kGuesses = 64;

  int shift_ = 0;
  int64_t first_, count_;
  std::vector<uint32_t> below_;          // [8 count + 1] mass up to every eighth of a symbol, 1024ths of a slot
  std::array<uint8_t, kGuesses> guess_;  // symbols at evenly spread slots for u = 1/2
};

std::vector<GaussianBytes> to_bytes(const Mixture& mixture, double scale);  // of values times scale, in steps
// Expected bits per value under the mixture; `values` rising, in units of 1 / scale steps.
double expected_bits(const Mixture& mixture, const double* values, int64_t rows, double scale);

class CoefficientCoder {
 public:
  // models: uint8 [c, 3], the mixtures of the coefficients one after the other; throws E_MISMATCH for what is none.
  CoefficientCoder(const at::Tensor& models, const std::string& codec);
  int64_t count() const { return int64_t(models_.size()); }
  bool is_coded(int64_t coefficient) const { return models_[coefficient].has_value(); }
  // q and u [m, n], coefficients one after the other; |q| < 2^30, u in [0, 2^24). What is left out is passed over.
  std::vector<uint8_t> encode(const int32_t* q, const uint32_t* u, int64_t n) const;
  // Throws E_DATA for bytes that encode did not write.
  void decode(const uint8_t* bytes, int64_t size, const uint32_t* u, int64_t n, int32_t* q) const;

 private:
  std::vector<std::optional<CoefficientModel>> models_;
};

}  // namespace lpld
