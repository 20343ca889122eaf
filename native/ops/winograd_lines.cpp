#include "ops/winograd_lines.h"

#include <immintrin.h>

#include <algorithm>

#include "core/feature_levels.h"
#include "ops/winograd_lanes.h"

namespace lpld {

namespace {

// Two rows of pixels, of which one or both may be outside the image, and how they make a row of points.
struct Rows {
  int64_t first, second;
  bool adds;
};
Rows rows_of(const WinogradLines& in) {
  const int64_t y = in.y;
  if (in.gradient)  // y0, y0 + y1, y0 - y1, -y1
    return {in.k < 3 ? y : -1, in.k > 0 ? y + 1 : -1, in.k < 2};
  const Rows of_x[4] = {{y - 1, y + 1, false}, {y, y + 1, true}, {y + 1, y, false}, {y, y + 2, false}};
  return of_x[in.k];
}

// Numbers of two neighbouring tiles side by side in memory.
LPLD_INLINE void store_pair(float* to, const Lanes& even, const Lanes& odd) {
  store(to, even);
  store(to + kWinogradLanes, odd);
}
LPLD_INLINE void store_pair(uint16_t* to, const Lanes& even, const Lanes& odd) {
  Words low, high;
  round_to_half(even, low);
  round_to_half(odd, high);
  low |= high << 16;
  std::memcpy(to, &low, sizeof(low));
}

// Of one tile, from the pixel left of its first output on.
template <bool kGradient>
LPLD_INLINE void along_row(const Lanes* d, Lanes (&v)[4]) {
  if (kGradient) {
    v[0] = d[1];
    v[1] = d[1] + d[2];
    v[2] = d[1] - d[2];
    v[3] = -d[2];
  } else {
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[1] - d[3];
  }
}

template <class T, bool kGradient>
LPLD_INLINE void lines(const WinogradLines& in) {
  constexpr int64_t kStrip = 16;  // tiles whose columns stay in the first-level cache
  const Rows rows = rows_of(in);
  const int64_t across = (in.width + 1) / 2, tiles = across + across % 2;
  const auto row_at = [&](int64_t y) {
    return y < 0 || y >= in.height ? nullptr : static_cast<const T*>(in.image) + y * in.width * in.channels;
  };
  const T *first = row_at(rows.first), *second = row_at(rows.second);
  for (int64_t g = 0; g < in.groups; ++g)
    for (int64_t begin = 0; begin < tiles; begin += kStrip) {
      const int64_t strip = std::min(kStrip, tiles - begin);
      Lanes column[2 * kStrip + 2];
      for (int64_t i = 0; i < 2 * strip + 2; ++i) {
        const int64_t x = 2 * begin - 1 + i, at = x * in.channels + g * kWinogradLanes;
        const bool outside = x < 0 || x >= in.width;
        Lanes a{}, b{};
        if (!outside && first != nullptr) load(first + at, a);
        if (!outside && second != nullptr) load(second + at, b);
        column[i] = rows.adds ? a + b : a - b;
      }
      T* to = static_cast<T*>(in.lines) + g * in.group + begin * kWinogradLanes;
      for (int64_t i = 0; i < strip; i += 2, to += 2 * kWinogradLanes) {
        Lanes even[4], odd[4];
        along_row<kGradient>(column + 2 * i, even);
        along_row<kGradient>(column + 2 * i + 2, odd);
        for (int j = 0; j < 4; ++j) store_pair(to + j * in.point, even[j], odd[j]);
      }
    }
}

__attribute__((target("avx512f"))) inline void add_to(float* sum, const __m512& more, bool fresh) {
  _mm512_storeu_ps(sum, fresh ? more : _mm512_add_ps(_mm512_loadu_ps(sum), more));
}

constexpr int kRows = 8;  // of sums in registers, two vectors each

}  // namespace

LPLD_WIDE void winograd_lines_f32(const WinogradLines& in) {
  in.gradient ? lines<float, true>(in) : lines<float, false>(in);
}
LPLD_WIDE void winograd_lines_bf16(const WinogradLines& in) {
  in.gradient ? lines<uint16_t, true>(in) : lines<uint16_t, false>(in);
}

__attribute__((target("avx512f"))) void winograd_sums_f32(const WinogradSums& in) {
  const float* right = static_cast<const float*>(in.right);
  for (int half = 0; half < 2; ++half) {
    const float* left = static_cast<const float*>(in.left) + half * kRows;
    float* sums = in.sums + half * kRows * in.stride;
    __m512 sum[kRows][2];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      for (int g = 0; g < 2; ++g) sum[r][g] = _mm512_setzero_ps();
    for (int64_t t = 0; t < in.tiles; ++t) {
      const __m512 b0 = _mm512_loadu_ps(right + 16 * t), b1 = _mm512_loadu_ps(right + in.group + 16 * t);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512 a = _mm512_set1_ps(left[16 * t + r]);
        sum[r][0] = _mm512_fmadd_ps(a, b0, sum[r][0]);
        sum[r][1] = _mm512_fmadd_ps(a, b1, sum[r][1]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      for (int g = 0; g < 2; ++g) add_to(sums + r * in.stride + 16 * g, sum[r][g], in.fresh);
  }
}

__attribute__((target("avx512f,avx512bf16"))) void winograd_sums_bf16(const WinogradSums& in) {
  const uint16_t* right = static_cast<const uint16_t*>(in.right);
  for (int half = 0; half < 2; ++half) {
    const uint16_t* left = static_cast<const uint16_t*>(in.left) + half * 2 * kRows;
    float* sums = in.sums + half * kRows * in.stride;
    __m512 sum[kRows][2];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      for (int g = 0; g < 2; ++g) sum[r][g] = _mm512_setzero_ps();
    for (int64_t t = 0; t < in.tiles; t += 2) {
      const auto b0 = (__m512bh)_mm512_loadu_si512(right + 16 * t),
                 b1 = (__m512bh)_mm512_loadu_si512(right + in.group + 16 * t);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        int32_t pair;
        std::memcpy(&pair, left + 16 * t + 2 * r, sizeof(pair));
        const auto a = (__m512bh)_mm512_set1_epi32(pair);
        sum[r][0] = _mm512_dpbf16_ps(sum[r][0], a, b0);
        sum[r][1] = _mm512_dpbf16_ps(sum[r][1], a, b1);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      for (int g = 0; g < 2; ++g) add_to(sums + r * in.stride + 16 * g, sum[r][g], in.fresh);
  }
}

LPLD_WIDE void winograd_taps(const WinogradTaps& in) {
  for (int64_t c = 0; c < in.channels; c += kWinogradLanes) {
    Lanes down[3][4];
    for (int j = 0; j < 4; ++j) {
      Lanes u[4];
      for (int k = 0; k < 4; ++k) {
        const float* from = in.points + (4 * k + j) * in.point + c;
        load(from, u[k]);
        for (int64_t s = 1; s < in.slices; ++s) {
          Lanes more;
          load(from + s * in.slice, more);
          u[k] += more;
        }
      }
      const Lanes half = 0.5f * (u[1] + u[2]);
      down[0][j] = u[0] + half;
      down[1][j] = 0.5f * (u[1] - u[2]);
      down[2][j] = half + u[3];
    }
    for (int y = 0; y < 3; ++y) {
      const Lanes(&u)[4] = down[y];
      const Lanes half = 0.5f * (u[1] + u[2]);
      float* to = in.taps + y * 3 * in.channels + c;
      store(to, u[0] + half);
      store(to + in.channels, 0.5f * (u[1] - u[2]));
      store(to + 2 * in.channels, half + u[3]);
    }
  }
}

}  // namespace lpld
