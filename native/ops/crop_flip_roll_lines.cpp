#include "ops/crop_flip_roll_lines.h"

#include <vector>

#include "core/aten.h"
#include "ops/axis_taps.h"

namespace lpld {

namespace {

// A tap for each position of the resized crop: source positions in the image, its output position, and the weights.
struct Line {
  int64_t low, high, position;
  float of_low, of_high;  // where low == high both are of it
};

std::vector<Line> lines_of(const Axis<float>& axis) {
  std::vector<Line> out;
  for (int64_t i = 0; i < axis.size; ++i) {
    const Tap<float> tap = resized_tap(axis, i);
    out.push_back({axis.start + tap.low, axis.start + tap.high, axis_position(axis, i), 1.0f - tap.weight, tap.weight});
  }
  return out;
}

struct View {
  std::vector<Line> rows, columns;
};

std::vector<View> views_of(const CropArgs& a) {  // [G]
  std::vector<View> out;
  for (int64_t g = 0; g < a.groups; ++g) {
    const int64_t draw = *a.step * a.groups + g;
    const int32_t *box = a.crop + 4 * draw, *by = a.roll + 2 * draw;
    out.push_back({lines_of({a.size, box[0], box[2], false, by[0]}),
                   lines_of({a.size, box[1], box[3], a.flip[draw] != 0, by[1]})});
  }
  return out;
}

// One source row of all channels, resized across, in the order of the output: to [P, C].
void across(const CropArgs& a, const View& view, const float* row, float* to) {
  const int64_t plane = a.size * a.size;
  for (int64_t c = 0; c < a.channels; ++c, row += plane)
    for (const Line& tap : view.columns)
      to[tap.position * a.channels + c] = tap.of_low * row[tap.low] + tap.of_high * row[tap.high];
}
}  // namespace

void crop_forward_lines(const CropArgs& a) {
  const std::vector<View> views = views_of(a);
  const int64_t plane = a.size * a.size, width = a.size * a.channels;
  at::parallel_for(0, a.groups * a.images, 1, [&](int64_t first, int64_t last) {
    std::vector<float> buffer(2 * width);
    for (int64_t image = first; image < last; ++image) {
      const View& view = views[image / a.images];
      const float* from = a.from + image * plane * a.channels;
      float *upper = buffer.data(), *lower = upper + width;
      int64_t in_upper = -1, in_lower = -1;  // source rows
      for (const Line& tap : view.rows) {
        if (tap.low == in_lower) {
          std::swap(upper, lower);
          std::swap(in_upper, in_lower);
        }
        if (in_upper != tap.low) across(a, view, from + tap.low * a.size, upper);
        if (in_lower != tap.high) across(a, view, from + tap.high * a.size, lower);
        in_upper = tap.low;
        in_lower = tap.high;
        float* to = a.to + image * plane * a.channels + tap.position * width;
        for (int64_t i = 0; i < width; ++i) to[i] = tap.of_low * upper[i] + tap.of_high * lower[i];
      }
    }
  });
}

void crop_backward_lines(const CropArgs& a) {
  const std::vector<View> views = views_of(a);
  const int64_t plane = a.size * a.size, width = a.size * a.channels;
  at::parallel_for(0, a.groups * a.images, 1, [&](int64_t first, int64_t last) {
    std::vector<float> along(width);  // [C, P]
    for (int64_t image = first; image < last; ++image) {
      const View& view = views[image / a.images];
      float* to = a.to + image * plane * a.channels;
      std::fill(to, to + plane * a.channels, 0.0f);
      for (const Line& row : view.rows) {
        const float* from = a.from + image * plane * a.channels + row.position * width;
        std::fill(along.begin(), along.end(), 0.0f);
        for (const Line& tap : view.columns)
          for (int64_t c = 0; c < a.channels; ++c) {
            const float gradient = from[tap.position * a.channels + c];
            float* sums = along.data() + c * a.size;
            if (tap.low == tap.high) {
              sums[tap.low] += (tap.of_low + tap.of_high) * gradient;
            } else {
              sums[tap.low] += tap.of_low * gradient;
              sums[tap.high] += tap.of_high * gradient;
            }
          }
        const auto add = [&](int64_t y, float weight) {
          for (int64_t c = 0; c < a.channels; ++c) {
            const float* sums = along.data() + c * a.size;
            float* line = to + c * plane + y * a.size;
            for (int64_t x = 0; x < a.size; ++x) line[x] += weight * sums[x];
          }
        };
        if (row.low == row.high) {
          add(row.low, row.of_low + row.of_high);
        } else {
          add(row.low, row.of_low);
          add(row.high, row.of_high);
        }
      }
    }
  });
}

}  // namespace lpld
