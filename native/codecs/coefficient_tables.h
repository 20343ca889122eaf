#pragma once
// coefficient_tables: dithered whole numbers <-> bytes. A coefficient of t steps becomes q = floor(t + u) and is read as
// q + 1/2 - u, u in [0, 1) being known to both sides (subtractive dither: the error is uniform in (-1/2, 1/2] and tells
// nothing of t). Every coefficient has four static tables, one for each quarter u lies in: knowing u narrows q.
//   symbol    (q >> shift) - first, then the low `shift` bits of q; shift keeps an alphabet at 64 symbols or fewer
//   escape    the symbol after the last; then 5 bits L and the L - 1 bits under the leading one of 2q or -2q - 1 (zigzag)
// Tables are fitted to a sample (float64) and stored as integers: what is decoded is equal on every machine.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "codecs/rans.h"

namespace lpld {

constexpr int kQuarters = 4;
constexpr int kDitherBits = 24;  // u = word * 2^-24

// What is stored of m coefficients.
struct TableTensors {
  at::Tensor coefficient;  // int32 [m, 3] first, count, shift
  at::Tensor frequency;    // int16 [sum of 4 * (count + 1)] 4096ths: coefficient, quarter, symbol; the escape last
};

// Tables for coefficients in steps: double [m, N], each row rising.
TableTensors fit_tables(const at::Tensor& sorted);
// Expected bits per value of one coefficient under the tables fitted to it; `values` rising, in units of 1 / scale steps.
double expected_bits(const double* values, int64_t rows, double scale);

class CoefficientTables {
 public:
  // Throws E_MISMATCH unless the tensors are tables.
  CoefficientTables(const TableTensors& tensors, const std::string& codec);
  int64_t count() const { return int64_t(entries_.size()); }
  // q and u [m, n], coefficients one after the other; |q| < 2^30, u in [0, 2^24).
  std::vector<uint8_t> encode(const int32_t* q, const uint32_t* u, int64_t n) const;
  // Throws E_DATA for bytes that encode did not write.
  void decode(const uint8_t* bytes, int64_t size, const uint32_t* u, int64_t n, int32_t* q) const;

 private:
  struct Entry {
    int32_t first, count, shift;
    std::vector<uint32_t> start[kQuarters];  // [count + 2]
    std::vector<uint8_t> symbol[kQuarters];  // [4096] of each slot
  };
  std::vector<Entry> entries_;
};

}  // namespace lpld
