// The tables of coefficient_tables.h: fitted to expected counts over all dithers rather than to one draw, checked when
// they are read, and used in both directions.
#include "codecs/coefficient_tables.h"

#include <bit>

#include "core/aten.h"

namespace lpld {

namespace {
// Symbols of an alphabet: as many as a sample teaches something of, and no more bytes of tables than they save.
constexpr int64_t kLeastSymbols = 8, kMostSymbols = 64, kRowsPerSymbol = 16;
constexpr double kPrior = 0.05;      // count of a symbol never seen, and of the escape
constexpr int64_t kTail = 512;       // a share 1 / kTail of the sample at either end is left to the escape
constexpr int32_t kLimit = 1 << 30;  // |q|
constexpr int kLengthBits = 5;

uint32_t zigzag(int32_t q) { return q >= 0 ? 2 * uint32_t(q) : 2 * uint32_t(-(q + 1)) + 1; }

struct Model {
  int32_t first = 0, count = 1, shift = 0;
  std::vector<double> mass[kQuarters];  // [count + 1], prior included
  double total[kQuarters] = {};
  double escape_bits = 0;  // of all rows, besides the symbol
};

Model model_of(const double* values, int64_t rows, double scale) {
  Model m;
  const int64_t tail = rows / kTail;
  const int64_t low = int64_t(std::floor(values[tail] * scale));
  const int64_t high = int64_t(std::floor(values[rows - 1 - tail] * scale)) + 1;
  const int64_t most = std::clamp(rows / kRowsPerSymbol, kLeastSymbols, kMostSymbols);
  while ((high >> m.shift) - (low >> m.shift) >= most) ++m.shift;
  m.first = int32_t(low >> m.shift);
  m.count = int32_t((high >> m.shift) - m.first) + 1;
  for (auto& mass : m.mass) mass.assign(m.count + 1, kPrior);
  for (int64_t row = 0; row < rows; ++row) {
    const double t = values[row] * scale;
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      const double from = t + double(quarter) / kQuarters;  // t + u runs over [from, from + 1/4)
      const double q = std::floor(from);
      const double stays = std::min(1.0, (q + 1 - from) * kQuarters);
      for (int step = 0; step < 2; ++step) {
        const double share = step == 0 ? stays : 1 - stays;
        if (share <= 0) continue;
        const int64_t whole = int64_t(q) + step;
        const int64_t symbol = (whole >> m.shift) - m.first;
        const bool inside = symbol >= 0 && symbol < m.count;
        m.mass[quarter][inside ? symbol : m.count] += share;
        if (!inside) m.escape_bits += share / kQuarters * (kLengthBits + std::log2(1.0 + 2 * std::abs(double(whole))));
      }
    }
  }
  for (int quarter = 0; quarter < kQuarters; ++quarter)
    for (const double mass : m.mass[quarter]) m.total[quarter] += mass;
  return m;
}

// Whole 4096ths that add up, none of them 0.
std::vector<int16_t> frequencies(const std::vector<double>& mass, double total) {
  std::vector<int16_t> out;
  int32_t sum = 0;
  for (const double value : mass) {
    out.push_back(int16_t(std::max(1.0, std::floor(value / total * kRansTotal + 0.5))));
    sum += out.back();
  }
  for (; sum != int32_t(kRansTotal); sum += sum < int32_t(kRansTotal) ? 1 : -1) {
    auto& largest = *std::max_element(out.begin(), out.end());  // more than 4096 / 66, so it never reaches 0
    largest = int16_t(largest + (sum < int32_t(kRansTotal) ? 1 : -1));
  }
  return out;
}
}  // namespace

double expected_bits(const double* values, int64_t rows, double scale) {
  const Model m = model_of(values, rows, scale);
  double bits = m.escape_bits + double(m.shift) * double(rows);
  for (int quarter = 0; quarter < kQuarters; ++quarter)
    for (const double mass : m.mass[quarter]) bits -= (mass - kPrior) / kQuarters * std::log2(mass / m.total[quarter]);
  return bits / double(rows);
}

TableTensors fit_tables(const at::Tensor& sorted) {
  const int64_t count = sorted.size(0), rows = sorted.size(1);
  std::vector<int32_t> coefficient;
  std::vector<int16_t> frequency;
  for (int64_t i = 0; i < count; ++i) {
    const Model m = model_of(sorted.const_data_ptr<double>() + i * rows, rows, 1);
    coefficient.insert(coefficient.end(), {m.first, m.count, m.shift});
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      const auto table = frequencies(m.mass[quarter], m.total[quarter]);
      frequency.insert(frequency.end(), table.begin(), table.end());
    }
  }
  return {at::tensor(coefficient, at::kInt).view({count, 3}), at::tensor(frequency, at::kShort)};
}

CoefficientTables::CoefficientTables(const TableTensors& tensors, const std::string& codec) {
  const at::Tensor rows = tensors.coefficient.contiguous(), all = tensors.frequency.contiguous();
  const int32_t* row = rows.const_data_ptr<int32_t>();
  const int16_t* next = all.const_data_ptr<int16_t>();
  int64_t left = all.size(0);
  for (int64_t i = 0; i < rows.size(0); ++i, row += 3) {
    Entry entry{row[0], row[1], row[2], {}, {}};
    const bool fits = entry.count > 0 && entry.count < 256 && entry.shift >= 0 && entry.shift <= 24 &&
                      std::abs(int64_t{entry.first}) + 256 <= (kLimit >> entry.shift) &&
                      left >= kQuarters * (entry.count + 1);
    LPLD_CHECK(fits, Mismatch, codec, ": expected first, count and shift of coefficient ", i,
               " to describe tables that are there");
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      auto& start = entry.start[quarter];
      auto& symbol = entry.symbol[quarter];
      start.push_back(0);
      for (int32_t s = 0; s <= entry.count; ++s) {
        const int64_t frequency = *next++;
        const bool sound = frequency > 0 && start.back() + frequency <= int64_t{kRansTotal};
        LPLD_CHECK(sound, Mismatch, codec, ": expected frequencies from 1 that add up to 4096 for coefficient ", i);
        symbol.insert(symbol.end(), frequency, uint8_t(s));
        start.push_back(uint32_t(start.back() + frequency));
      }
      LPLD_CHECK(start.back() == kRansTotal, Mismatch, codec, ": expected the frequencies of coefficient ", i,
                 " to add up to 4096");
    }
    left -= kQuarters * (entry.count + 1);
    entries_.push_back(std::move(entry));
  }
  LPLD_CHECK(left == 0, Mismatch, codec, ": expected no frequencies after the last table, received ", left);
}

std::vector<uint8_t> CoefficientTables::encode(const int32_t* q, const uint32_t* u, int64_t n) const {
  RansEncoder out;
  for (const Entry& entry : entries_)
    for (int64_t row = 0; row < n; ++row, ++q, ++u) {
      const auto& start = entry.start[*u >> (kDitherBits - 2)];
      const int64_t symbol = int64_t{*q >> entry.shift} - entry.first;
      const bool inside = symbol >= 0 && symbol < entry.count;
      const int64_t s = inside ? symbol : entry.count;
      out.symbol(start[s], start[s + 1] - start[s]);
      if (inside) {
        out.bits(uint32_t(*q), entry.shift);
      } else {
        const uint32_t z = zigzag(*q);
        const int length = std::bit_width(z);
        out.bits(uint32_t(length), kLengthBits);
        out.bits(z, std::max(0, length - 1));
      }
    }
  return out.finish();
}

void CoefficientTables::decode(const uint8_t* bytes, int64_t size, const uint32_t* u, int64_t n, int32_t* q) const {
  RansDecoder in(bytes, size);
  for (const Entry& entry : entries_)
    for (int64_t row = 0; row < n; ++row, ++q, ++u) {
      const uint32_t quarter = *u >> (kDitherBits - 2);
      const auto& start = entry.start[quarter];
      const int32_t s = entry.symbol[quarter][in.slot()];
      in.advance(start[s], start[s + 1] - start[s]);
      if (s < entry.count) {
        *q = ((entry.first + s) << entry.shift) | int32_t(in.bits(entry.shift));
      } else if (const int length = int(in.bits(kLengthBits)); length == 0) {
        *q = 0;
      } else {
        const uint32_t z = (1u << (length - 1)) | in.bits(length - 1);
        *q = (z & 1) ? -int32_t(z >> 1) - 1 : int32_t(z >> 1);
      }
    }
  in.finish();
}

}  // namespace lpld
