#pragma once
// Philox4x32-10 (Salmon et al., SC'11), the one source of randomness: counter = (object, view, purpose, block),
// key = seed. Only noise and weight initialisation are drawn here; all geometry is drawn in src/recipe.ts.
// docs/streams.md defines the uniform and normal rules; test/ops/philox.test.ts holds the vectors.
#include <array>
#include <cmath>
#include <cstdint>

namespace lpld {

struct Philox {
  uint64_t seed;
  uint32_t purpose, object, view;

  static std::array<uint32_t, 4> block(std::array<uint32_t, 4> c, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
      const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
      c = {uint32_t(p1 >> 32) ^ c[1] ^ k0, uint32_t(p1), uint32_t(p0 >> 32) ^ c[3] ^ k1, uint32_t(p0)};
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    return c;
  }

  std::array<uint32_t, 4> words(uint32_t index) const {
    return block({object, view, purpose, index}, uint32_t(seed), uint32_t(seed >> 32));
  }

  // out[i] = (word >> 8) * 2^-24, in [0, 1): element i is word i & 3 of block i >> 2
  void uniforms(float* out, int64_t count) const {
    for (int64_t i = 0; i < count; i += 4) {
      const auto w = words(uint32_t(i >> 2));
      for (int64_t lane = 0; lane < 4 && i + lane < count; ++lane) out[i + lane] = float(w[lane] >> 8) * 0x1p-24f;
    }
  }

  // Box-Muller in double, rounded to float: words (0, 1) give lanes 0 (cosine) and 1 (sine), words (2, 3) lanes 2, 3.
  void normals(float* out, int64_t count) const {
    constexpr double kTwoPi = 6.283185307179586476925286766559;
    for (int64_t i = 0; i < count; i += 4) {
      const auto w = words(uint32_t(i >> 2));
      for (int64_t pair = 0; pair < 2; ++pair) {
        const double radius = std::sqrt(-2.0 * std::log((double(w[2 * pair]) + 0.5) * 0x1p-32));
        const double angle = kTwoPi * (double(w[2 * pair + 1]) * 0x1p-32);
        if (i + 2 * pair < count) out[i + 2 * pair] = float(radius * std::cos(angle));
        if (i + 2 * pair + 1 < count) out[i + 2 * pair + 1] = float(radius * std::sin(angle));
      }
    }
  }
};

}  // namespace lpld
