#pragma once
// Sixteen values side by side, as GCC's and Clang's vector types, for winograd_tiles, _lines and _weights.cpp.
// Never passed by value: how that is done depends on the instruction set.
#include <cstdint>
#include <cstring>

#include "core/feature_levels.h"

namespace lpld {

constexpr int64_t kWinogradLanes = 16;
constexpr int64_t kWinogradBlock = 64;  // outputs of one matrix product

typedef float Lanes __attribute__((vector_size(4 * kWinogradLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kWinogradLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kWinogradLanes)));

LPLD_INLINE void load(const float* p, Lanes& v) { std::memcpy(&v, p, sizeof(v)); }
LPLD_INLINE void store(float* p, const Lanes& v) { std::memcpy(p, &v, sizeof(v)); }

// bfloat16 is its 16 bits.
LPLD_INLINE void load(const uint16_t* p, Lanes& v) {
  Halves halves;
  std::memcpy(&halves, p, sizeof(halves));
  const Words words = __builtin_convertvector(halves, Words) << 16;
  std::memcpy(&v, &words, sizeof(v));
}
// Rounded to nearest even, in the low half of each word; every NaN to the quiet one.
LPLD_INLINE void round_to_half(const Lanes& v, Words& words) {
  std::memcpy(&words, &v, sizeof(words));
  const Words rounded = (words + 0x7fff + ((words >> 16) & 1)) >> 16;
  words = v == v ? rounded : Words{} + 0x7fc0;
}
LPLD_INLINE void store(uint16_t* p, const Lanes& v) {
  Words words;
  round_to_half(v, words);
  const Halves halves = __builtin_convertvector(words, Halves);
  std::memcpy(p, &halves, sizeof(halves));
}

}  // namespace lpld
