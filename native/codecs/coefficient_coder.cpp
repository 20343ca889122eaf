// The densities of coefficient_coder.h in whole numbers, and the coding of both directions. A Gaussian is made by one rule,
// so that its heights need neither a library's exponential nor a list.
#include "codecs/coefficient_coder.h"

#include <bit>
#include <cmath>

#include "core/aten.h"

namespace lpld {

namespace {
constexpr int64_t kMostSymbols = 64;
constexpr int kLengthBits = 5;
constexpr int kLeastExponent = 14;  // of a cell's width: 8 * 2^14 2^-24ths, or 1/128 step
constexpr int kShares = 256, kMiddle = 128;

// Masses of a Gaussian from its mean to the end of each cell, of an eighth of a deviation; 4.5 deviations. Each height is
// the one before times a ratio, and each ratio the one before times the first, in 2^-30ths, rounded down.
constexpr int64_t kCells = 36;
struct Bell {
  std::array<int64_t, kCells + 1> below{};
  constexpr Bell() {
    constexpr uint64_t kBend = 1057095000;  // e^(-1/64)
    uint64_t height = 1 << 24, ratio = kBend;
    for (int64_t i = 0; i < kCells; ++i) {
      below[i + 1] = below[i] + int64_t(height);
      height = (height * ratio) >> 30;
      ratio = (ratio * kBend) >> 30;
    }
  }
};
constexpr Bell kBell;
constexpr int64_t kHalf = kBell.below[kCells];

struct Part {
  int64_t share, mantissa, centre;  // 256ths; 2^exponents; 2^-24ths of a step
  int exponent;

  explicit Part(const GaussianBytes& bytes, int64_t left)
      : share(bytes.share == 0 ? left : bytes.share),
        mantissa(8 + bytes.width % 8),
        centre(0),
        exponent(kLeastExponent + bytes.width / 8) {
    centre = (int64_t{bytes.centre} - kMiddle) * width();
  }
  int64_t width() const { return mantissa << exponent; }
  int64_t reach() const { return kCells * width(); }
  // Mass below x, of 2 * kHalf.
  int64_t below(int64_t x) const {
    constexpr int kFine = 9;  // of a cell's width, bits kept
    const int64_t at = std::abs(x - centre) >> (exponent - kFine), cell = at / (mantissa << kFine);
    int64_t mass = kHalf;
    if (cell < kCells) {
      const int64_t part = at % (mantissa << kFine), low = kBell.below[cell];
      mass = low + (kBell.below[cell + 1] - low) * part / (mantissa << kFine);
    }
    return kHalf + (x < centre ? -mass : mass);
  }
};

uint32_t zigzag(int32_t q) { return q >= 0 ? 2 * uint32_t(q) : 2 * uint32_t(-(q + 1)) + 1; }

// The width whose cell is nearest to an eighth of a deviation of so many steps.
uint8_t width_of(double deviation) {
  int exponent = 0;
  const double part = std::frexp(std::max(1.0, std::ldexp(deviation / 8, kDitherBits)), &exponent);  // in [1/2, 1)
  const int code = (exponent - 4 - kLeastExponent) * 8 + int(std::lround(part * 16)) - 8;
  return uint8_t(std::clamp(code, 0, int(kMostWidth)));
}
}  // namespace

CoefficientModel::CoefficientModel(const std::vector<GaussianBytes>& mixture) {
  std::vector<Part> parts;
  int64_t left = kShares, low = INT64_MAX, high = INT64_MIN;
  for (const GaussianBytes& bytes : mixture) {
    const Part& part = parts.emplace_back(bytes, left);
    left -= part.share;
    low = std::min(low, part.centre - part.reach());
    high = std::max(high, part.centre + part.reach());
  }
  low >>= kDitherBits;
  high = (high >> kDitherBits) + 1;
  while ((high >> shift_) - (low >> shift_) >= kMostSymbols) ++shift_;
  first_ = low >> shift_;
  count_ = (high >> shift_) - first_ + 1;
  // Every symbol has a slot of its own, and so has the escape; the others are shared out.
  const int64_t slots = (int64_t{kRansTotal} - 1 - count_) << kPartBits;
  for (int64_t cell = 0; cell <= count_ << (kDitherBits - kCellBits); ++cell) {
    const int64_t x = (first_ << (shift_ + kDitherBits)) + (cell << (shift_ + kCellBits));
    int64_t sum = 0;
    for (const Part& part : parts) sum += part.share * part.below(x);
    below_.push_back(uint32_t(sum * slots / (2 * kShares * kHalf)));
  }
  for (int64_t i = 0, symbol = 0; i < kGuesses; ++i) {
    while (start(symbol + 1, 1u << (kDitherBits - 1)) <= uint32_t(i) * (kRansTotal / kGuesses)) ++symbol;
    guess_[i] = uint8_t(symbol);
  }
}

CoefficientModel::Found CoefficientModel::find(uint32_t slot, uint32_t u) const {
  int64_t symbol = guess_[slot / (kRansTotal / kGuesses)];
  uint32_t from = start(symbol, u), to = start(symbol + 1, u);
  for (; to <= slot; to = start(++symbol + 1, u)) from = to;
  for (; from > slot; from = start(--symbol, u)) to = from;
  return {symbol, from, to};
}

std::vector<GaussianBytes> to_bytes(const Mixture& mixture, double scale) {
  std::vector<GaussianBytes> out;
  for (const Gaussian& g : mixture) {
    const uint8_t width = width_of(g.deviation * scale);
    const double cell = std::ldexp(8 + width % 8, kLeastExponent + width / 8 - kDitherBits);
    const double centre = std::clamp(std::round(g.mean * scale / cell), -double(kMiddle), double(kMiddle - 1));
    const double share = std::clamp(std::round(g.share * kShares), 1.0, double(kShares - kMostGaussians));
    out.push_back({uint8_t(share), width, uint8_t(centre + kMiddle)});
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.share < b.share; });
  out.back().share = 0;
  return out;
}

double expected_bits(const Mixture& mixture, const double* values, int64_t rows, double scale) {
  const CoefficientModel model(to_bytes(mixture, scale));
  double bits = double(model.shift()) * double(rows);
  for (int64_t row = 0; row < rows; ++row) {
    const uint32_t u = (uint32_t(row) * 2654435769u) >> 8;  // spread evenly over every run of rows
    const double t = std::clamp(values[row] * scale, -0x1p29, 0x1p29);
    const int32_t q = int32_t(std::floor(t + double(u) * 0x1p-24));
    const int64_t symbol = model.symbol_of(q);
    if (symbol == model.count()) bits += kLengthBits + std::max(0, int(std::bit_width(zigzag(q))) - 1) - model.shift();
    bits += kRansBits - std::log2(double(model.start(symbol + 1, u) - model.start(symbol, u)));
  }
  return bits / double(rows);
}

CoefficientCoder::CoefficientCoder(const at::Tensor& models, const std::string& codec) {
  const at::Tensor all = models.contiguous();
  const uint8_t* bytes = all.const_data_ptr<uint8_t>();
  std::vector<GaussianBytes> mixture;
  int64_t left = kShares;
  for (int64_t i = 0; i < all.size(0); ++i, bytes += 3) {
    if (mixture.empty() && bytes[0] == kLeftOut.share && bytes[1] == kLeftOut.width) {
      models_.emplace_back();
      continue;
    }
    LPLD_CHECK(bytes[0] < left && bytes[1] <= kMostWidth, Mismatch, codec,
               ": expected Gaussians whose shares stay below 256 and whose widths are at most ", int(kMostWidth),
               " in the basis, received a share of ", int(bytes[0]), " and a width of ", int(bytes[1]), " in row ", i,
               " of a model");
    mixture.push_back({bytes[0], bytes[1], bytes[2]});
    left -= bytes[0];
    if (bytes[0] > 0) continue;
    models_.emplace_back(std::in_place, mixture);
    mixture.clear();
    left = kShares;
  }
  LPLD_CHECK(mixture.empty(), Mismatch, codec, ": expected a model that ends with a share of 0 in the basis");
}

std::vector<uint8_t> CoefficientCoder::encode(const int32_t* q, const uint32_t* u, int64_t n) const {
  RansEncoder out;
  for (size_t j = 0; j < models_.size(); ++j, q += n, u += n) {
    if (!models_[j]) continue;
    const CoefficientModel& model = *models_[j];
    for (int64_t row = 0; row < n; ++row) {
      const int64_t symbol = model.symbol_of(q[row]);
      const uint32_t start = model.start(symbol, u[row]);
      out.symbol(start, model.start(symbol + 1, u[row]) - start);
      if (symbol < model.count()) {
        out.bits(uint32_t(q[row]), model.shift());
      } else {
        const uint32_t z = zigzag(q[row]);
        const int length = std::bit_width(z);
        out.bits(uint32_t(length), kLengthBits);
        out.bits(z, std::max(0, length - 1));
      }
    }
  }
  return out.finish();
}

void CoefficientCoder::decode(const uint8_t* bytes, int64_t size, const uint32_t* u, int64_t n, int32_t* q) const {
  RansDecoder in(bytes, size);
  for (size_t j = 0; j < models_.size(); ++j, q += n, u += n) {
    if (!models_[j]) continue;
    const CoefficientModel& model = *models_[j];
    for (int64_t row = 0; row < n; ++row) {
      const auto [symbol, start, end] = model.find(in.slot(), u[row]);
      in.advance(start, end - start);
      if (symbol < model.count()) {
        q[row] = model.whole(symbol, in.bits(model.shift()));
      } else if (const int length = int(in.bits(kLengthBits)); length == 0) {
        q[row] = 0;
      } else {
        const uint32_t z = (1u << (length - 1)) | in.bits(length - 1);
        q[row] = (z & 1) ? -int32_t(z >> 1) - 1 : int32_t(z >> 1);
      }
    }
  }
  in.finish();
}

}  // namespace lpld
