#include "ops/winograd_tiles.h"

#include <algorithm>

#include "core/feature_levels.h"
#include "ops/winograd_lanes.h"

namespace lpld {

namespace {

template <class T>
constexpr int kLine = 64 / sizeof(T);  // channels of a cache line

// v = B^T d and y = A^T m in one dimension, for F(2, 3) and F(4, 3).
LPLD_INLINE void to_points(const Lanes (&d)[4], Lanes (&v)[4]) {
  v[0] = d[0] - d[2];
  v[1] = d[1] + d[2];
  v[2] = d[2] - d[1];
  v[3] = d[1] - d[3];
}
LPLD_INLINE void from_points(const Lanes (&m)[4], Lanes (&y)[2]) {
  y[0] = m[0] + (m[1] + m[2]);
  y[1] = (m[1] - m[2]) - m[3];
}
LPLD_INLINE void to_points(const Lanes (&d)[6], Lanes (&v)[6]) {
  const Lanes even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];
  const Lanes near = d[4] - d[2], far = 2.0f * (d[3] - d[1]);
  v[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
  v[1] = even + odd;
  v[2] = even - odd;
  v[3] = near + far;
  v[4] = near - far;
  v[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}
LPLD_INLINE void from_points(const Lanes (&m)[6], Lanes (&y)[4]) {
  const Lanes sum = m[1] + m[2], difference = m[1] - m[2], wide = m[3] + m[4], spread = m[3] - m[4];
  y[0] = m[0] + sum + wide;
  y[1] = difference + 2.0f * spread;
  y[2] = sum + 4.0f * wide;
  y[3] = difference + 8.0f * spread + m[5];
}

// One cache line of channels of a strip of tiles: down every column first, which neighbouring tiles share, then along
// every row.
template <class T, int kTile>
LPLD_INLINE void input_strip(const WinogradInput& in, const T* image, T* points, int64_t x, int64_t tiles) {
  constexpr int kSide = kTile + 2, kColumns = 34, kGroups = kLine<T> / kWinogradLanes;
  Lanes columns[kSide][kColumns][kGroups];
  const TileRow& row = in.row;
  for (int64_t i = 0; i < tiles * kTile + 2; ++i) {
    const int64_t column = x - 1 + i;
    const bool outside = column < 0 || column >= row.width;
    for (int g = 0; g < kGroups; ++g) {
      Lanes d[kSide], v[kSide];
      for (int k = 0; k < kSide; ++k) {
        const int64_t y = row.y - 1 + k;
        if (outside || y < 0 || y >= row.height)
          d[k] = Lanes{};
        else
          load(image + (y * row.width + column) * in.channels + g * kWinogradLanes, d[k]);
      }
      to_points(d, v);
      for (int k = 0; k < kSide; ++k) columns[k][i][g] = v[k];
    }
  }
  for (int k = 0; k < kSide; ++k) {
    Lanes d[kGroups][kSide], v[kSide];
    for (int g = 0; g < kGroups; ++g)
      for (int j = 0; j < 2; ++j) d[g][kTile + j] = columns[k][j][g];
    T* to = points + k * kSide * in.stride;
    for (int64_t i = 0; i < tiles; ++i, to += in.channels)
      for (int g = 0; g < kGroups; ++g) {
        for (int j = 0; j < 2; ++j) d[g][j] = d[g][kTile + j];
        for (int j = 2; j < kSide; ++j) d[g][j] = columns[k][i * kTile + j][g];
        to_points(d[g], v);
        for (int j = 0; j < kSide; ++j) store(to + j * in.stride + g * kWinogradLanes, v[j]);
      }
  }
}

template <class T, int kTile>
LPLD_INLINE void input_row(const WinogradInput& in) {
  constexpr int64_t kStrip = 32 / kTile;  // tiles whose columns stay in the first-level cache
  const T* image = static_cast<const T*>(in.image);
  T* points = static_cast<T*>(in.points);
  for (int64_t first = 0; first < in.row.tiles; first += kStrip)
    for (int64_t c = 0; c < in.channels; c += kLine<T>)
      input_strip<T, kTile>(in, image + c, points + first * in.channels + c, in.row.x + first * kTile,
                            std::min(kStrip, in.row.tiles - first));
}

template <class T, int kTile>
LPLD_INLINE void output_row(const WinogradOutput& out) {
  constexpr int kSide = kTile + 2;
  const TileRow& row = out.row;
  const int64_t rows = std::min<int64_t>(kTile, row.height - row.y);
  for (int64_t i = 0; i < row.tiles; ++i) {
    const int64_t x = row.x + i * kTile, across = std::min<int64_t>(kTile, row.width - x);
    for (int64_t c = 0; c < kWinogradBlock; c += kWinogradLanes) {
      const float* products = out.products + i * kWinogradBlock + c;
      Lanes half[kTile][kSide];
      for (int j = 0; j < kSide; ++j) {
        Lanes m[kSide], y[kTile];
        for (int k = 0; k < kSide; ++k) load(products + (k * kSide + j) * out.stride, m[k]);
        from_points(m, y);
        for (int k = 0; k < kTile; ++k) half[k][j] = y[k];
      }
      Lanes bias{};
      if (out.bias != nullptr) load(out.bias + c, bias);
      for (int k = 0; k < rows; ++k) {
        Lanes y[kTile];
        from_points(half[k], y);
        const int64_t start = ((row.y + k) * row.width + x) * out.outputs + c;
        for (int j = 0; j < across; ++j) {
          const int64_t at = start + j * out.outputs;
          Lanes value = y[j] + bias, residual;
          if (out.residual != nullptr) {
            load(static_cast<const T*>(out.residual) + at, residual);
            value += residual;
          }
          if (out.relu) value = value < 0.0f ? Lanes{} : value;  // NaN stays NaN
          store(static_cast<T*>(out.image) + at, value);
        }
      }
    }
  }
}

}  // namespace

LPLD_WIDE void winograd_input_f32(const WinogradInput& in) {
  in.row.tile == 2 ? input_row<float, 2>(in) : input_row<float, 4>(in);
}
LPLD_WIDE void winograd_input_bf16(const WinogradInput& in) {
  in.row.tile == 2 ? input_row<uint16_t, 2>(in) : input_row<uint16_t, 4>(in);
}
LPLD_WIDE void winograd_output_f32(const WinogradOutput& out) {
  out.row.tile == 2 ? output_row<float, 2>(out) : output_row<float, 4>(out);
}
LPLD_WIDE void winograd_output_bf16(const WinogradOutput& out) {
  out.row.tile == 2 ? output_row<uint16_t, 2>(out) : output_row<uint16_t, 4>(out);
}

}  // namespace lpld
