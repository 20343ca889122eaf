#pragma once
// rans: the entropy coder of the codecs that write blobs. A range asymmetric numeral system (Duda 2013) with a 32-bit
// state in [2^23, 2^31), bytes in and out, and frequencies in 16384ths; a symbol is the interval [start, start + frequency).
// A stream is the decoder's first state (4 bytes, little-endian), then the bytes it takes in; a whole stream ends in the
// state 2^23 with no byte left, so nearly all damage is noticed (but for flips among bits of equal
// likelihood; the manifest's hash sees those). All integers: equal on every machine.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/error.h"

namespace lpld {

constexpr int kRansBits = 14;
constexpr uint32_t kRansTotal = 1u << kRansBits;
constexpr uint32_t kRansLow = 1u << 23;
constexpr int kRansChunk = 8;  // bits of equal likelihood go out in pieces of at most so many

// Symbols are given in the order in which they will be decoded; the coder itself works backwards.
class RansEncoder {
 public:
  void symbol(uint32_t start, uint32_t frequency) { queue_.push_back({uint16_t(start), uint16_t(frequency)}); }

  // The low `count` bits of value, high pieces first.
  void bits(uint32_t value, int count) {
    while (count > 0) {
      const int piece = std::min(count, kRansChunk);
      count -= piece;
      const uint32_t part = (value >> count) & ((1u << piece) - 1);
      symbol(part << (kRansBits - piece), 1u << (kRansBits - piece));
    }
  }

  std::vector<uint8_t> finish() const {
    std::vector<uint8_t> out;
    uint32_t state = kRansLow;
    for (auto it = queue_.rbegin(); it != queue_.rend(); ++it) {
      const uint32_t limit = ((kRansLow >> kRansBits) << 8) * it->frequency;
      for (; state >= limit; state >>= 8) out.push_back(uint8_t(state));
      state = ((state / it->frequency) << kRansBits) + state % it->frequency + it->start;
    }
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(uint8_t(state >> shift));
    std::reverse(out.begin(), out.end());
    return out;
  }

 private:
  struct Interval {
    uint16_t start, frequency;
  };
  std::vector<Interval> queue_;
};

// Throws E_DATA where a stream begins with an impossible state or ends early.
class RansDecoder {
 public:
  RansDecoder(const uint8_t* bytes, int64_t size) : next_(bytes), end_(bytes + size) {
    for (int i = 0; i < 4; ++i) state_ |= uint32_t{take()} << (8 * i);
    LPLD_CHECK(state_ >= kRansLow && state_ < (kRansLow << 8), Data,
               "expected a stream of labels that begins with a state in [2^23, 2^31), received ", state_);
  }

  uint32_t slot() const { return state_ & (kRansTotal - 1); }  // lies in the interval of the next symbol

  void advance(uint32_t start, uint32_t frequency) {
    state_ = frequency * (state_ >> kRansBits) + slot() - start;
    while (state_ < kRansLow) state_ = (state_ << 8) | take();
  }

  uint32_t bits(int count) {
    uint32_t value = 0;
    while (count > 0) {
      const int piece = std::min(count, kRansChunk);
      const int rest = kRansBits - piece;
      count -= piece;
      const uint32_t part = slot() >> rest;
      advance(part << rest, 1u << rest);
      value = (value << piece) | part;
    }
    return value;
  }

  void finish() const {
    LPLD_CHECK(state_ == kRansLow && next_ == end_, Data,
               "expected a stream of labels that ends with its last symbol, received a damaged one");
  }

 private:
  uint8_t take() {
    LPLD_CHECK(next_ != end_, Data, "expected a whole stream of labels, received one that is cut short");
    return *next_++;
  }
  const uint8_t* next_;
  const uint8_t* end_;
  uint32_t state_ = 0;
};

}  // namespace lpld
