#include "ops/resized_crop.h"

#include <cstring>

#include "core/error.h"
#include "core/feature_levels.h"
#include "ops/resample.h"

namespace lpld {

namespace {
constexpr int kHalf = 1 << (kResampleBits - 1);

template <int C>
__attribute__((always_inline)) inline void resample_columns(const uint8_t* from, const AxisWeights& axis, int64_t width,
                                                            uint8_t* to) {
  for (int64_t x = 0; x < width; ++x) {
    const int* weight = axis.weight.data() + x * axis.taps;
    const uint8_t* at = from + axis.first[x] * C;
    int sum[C];
    for (int c = 0; c < C; ++c) sum[c] = kHalf;
    for (int k = 0; k < axis.count[x]; ++k)
      for (int c = 0; c < C; ++c) sum[c] += at[k * C + c] * weight[k];
    for (int c = 0; c < C; ++c) to[x * C + c] = resample_round(sum[c]);
  }
}

// One line of the horizontal pass, [out_width, C].
void resample_columns_grey(const uint8_t* from, const AxisWeights& axis, int64_t width, uint8_t* to) {
  resample_columns<1>(from, axis, width, to);
}
void resample_columns_rgb(const uint8_t* from, const AxisWeights& axis, int64_t width, uint8_t* to) {
  resample_columns<3>(from, axis, width, to);
}

// One line of the vertical pass: `count` lines of `width` bytes, `stride` apart, weighted. Tap after tap, so that the sums
// of neighbours are taken side by side; integers, so that this is the same sum.
LPLD_AVX2 void resample_line(const uint8_t* from, int64_t stride, const int* weight, int count, int64_t width, int* sum,
                             uint8_t* to) {
  for (int64_t x = 0; x < width; ++x) sum[x] = kHalf;
  for (int k = 0; k < count; ++k)
    for (int64_t x = 0; x < width; ++x) sum[x] += from[k * stride + x] * weight[k];
  for (int64_t x = 0; x < width; ++x) to[x] = resample_round(sum[x]);
}
}  // namespace

const AxisWeights& Resizer::weights(int in, int out) {
  const auto [found, fresh] = cache_.try_emplace({in, out});
  AxisWeights& axis = found->second;
  if (!fresh) return axis;
  axis.taps = 0;
  for (int i = 0; i < out; ++i) {
    const Window window = resample_window(in, out, i);
    axis.first.push_back(window.first);
    axis.count.push_back(window.count);
    if (window.count > axis.taps) axis.taps = window.count;
  }
  axis.weight.assign(size_t(out) * axis.taps, 0);
  for (int i = 0; i < out; ++i) {
    const Window window = resample_window(in, out, i);
    double sum = 0;
    for (int k = 0; k < window.count; ++k) sum += resample_triangle(window, k);
    for (int k = 0; k < window.count; ++k) axis.weight[size_t(i) * axis.taps + k] = resample_weight(window, k, sum);
  }
  return axis;
}

void Resizer::resized_crop(const uint8_t* source, int64_t height, int64_t width, int64_t channels, CropBox crop,
                           bool flip, int64_t out_height, int64_t out_width, uint8_t* target) {
  LPLD_CHECK(crop.top >= 0 && crop.left >= 0 && crop.height > 0 && crop.width > 0 &&
                 crop.top + int64_t{crop.height} <= height && crop.left + int64_t{crop.width} <= width,
             Data, "resized_crop: expected a crop inside ", height, "x", width, ", received ", crop.top, ",", crop.left,
             " ", crop.height, "x", crop.width);
  LPLD_CHECK(channels == 1 || channels == 3, Internal, "resized_crop: expected 1 or 3 channels, received ", channels);
  const int64_t stride = width * channels;
  const uint8_t* corner = source + crop.top * stride + crop.left * channels;

  // horizontal pass -> [crop.height, out_width, C]
  const uint8_t* wide = corner;
  int64_t wide_stride = stride;
  if (crop.width != out_width) {
    const AxisWeights& axis = weights(crop.width, int(out_width));
    wide_stride = out_width * channels;
    columns_.resize(size_t(crop.height * wide_stride));
    for (int64_t y = 0; y < crop.height; ++y)
      (channels == 3 ? resample_columns_rgb : resample_columns_grey)(corner + y * stride, axis, out_width,
                                                                     columns_.data() + y * wide_stride);
    wide = columns_.data();
  }

  // vertical pass -> [out_height, out_width, C]
  const int64_t row = out_width * channels;
  rows_.resize(size_t(row));
  sums_.resize(size_t(row));
  const AxisWeights* axis = crop.height != out_height ? &weights(crop.height, int(out_height)) : nullptr;
  for (int64_t y = 0; y < out_height; ++y) {
    const uint8_t* line = wide + y * wide_stride;
    if (axis != nullptr) {
      resample_line(wide + axis->first[y] * wide_stride, wide_stride, axis->weight.data() + y * axis->taps,
                    axis->count[y], row, sums_.data(), rows_.data());
      line = rows_.data();
    }
    uint8_t* to = target + y * row;
    if (!flip) {
      std::memcpy(to, line, size_t(row));
    } else {
      for (int64_t x = 0; x < out_width; ++x)
        std::memcpy(to + x * channels, line + (out_width - 1 - x) * channels, size_t(channels));
    }
  }
}

}  // namespace lpld
