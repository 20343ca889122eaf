#include "ops/resized_crop.h"

#include <cstring>

#include "core/error.h"
#include "ops/resample.h"

namespace lpld {

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
  constexpr int kHalf = 1 << (kResampleBits - 1);
  const int64_t stride = width * channels;
  const uint8_t* corner = source + crop.top * stride + crop.left * channels;

  // horizontal pass -> [crop.height, out_width, C]
  const uint8_t* wide = corner;
  int64_t wide_stride = stride;
  if (crop.width != out_width) {
    const AxisWeights& axis = weights(crop.width, int(out_width));
    columns_.resize(size_t(crop.height * out_width * channels));
    for (int64_t y = 0; y < crop.height; ++y)
      for (int64_t x = 0; x < out_width; ++x)
        for (int64_t c = 0; c < channels; ++c) {
          int sum = kHalf;
          const uint8_t* from = corner + y * stride + axis.first[x] * channels + c;
          for (int k = 0; k < axis.count[x]; ++k) sum += from[k * channels] * axis.weight[x * axis.taps + k];
          columns_[size_t((y * out_width + x) * channels + c)] = resample_round(sum);
        }
    wide = columns_.data();
    wide_stride = out_width * channels;
  }

  // vertical pass -> [out_height, out_width, C]
  const int64_t row = out_width * channels;
  rows_.resize(size_t(row));
  const AxisWeights* axis = crop.height != out_height ? &weights(crop.height, int(out_height)) : nullptr;
  for (int64_t y = 0; y < out_height; ++y) {
    const uint8_t* line = wide + y * wide_stride;
    if (axis != nullptr) {
      for (int64_t x = 0; x < row; ++x) {
        int sum = kHalf;
        const uint8_t* from = wide + axis->first[y] * wide_stride + x;
        for (int k = 0; k < axis->count[y]; ++k) sum += from[k * wide_stride] * axis->weight[y * axis->taps + k];
        rows_[size_t(x)] = resample_round(sum);
      }
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
