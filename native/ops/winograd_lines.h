#pragma once
// The pieces of winograd_weight_gradient: pixels to lines, products of lines, points to taps. Channels-last, float or
// bfloat16 as its 16 bits. A line is 64 bytes: one point of 16 channels, of one tile in float; in bfloat16 of two
// neighbouring tiles, channel by channel, as the CPU multiplies them. The sums are AVX-512 only:
// winograd_weight_gradient() checks that.
//   source  Lavin and Gray 2016, section 4.1: the gradient of F(2x2, 3x3) to its taps is G^T [(B^T d B) (A dy A^T)] G
#include <cstdint>

namespace lpld {

// Row k of the points of one row of tiles: for x of B^T d B, for the gradient of A dy A^T. Each tile is 2 x 2 outputs; an odd
// number of tiles gets one more, which is zero for the gradient.
struct WinogradLines {
  const void* image;  // [height, width, channels], from the first of these channels on
  int64_t height, width, channels;
  int64_t y;  // pixel of the row's first output
  int64_t k;  // 0 to 3
  bool gradient;
  void* lines;            // of point (k, 0), the first 16 channels and the row's first tile
  int64_t point, groups;  // numbers from one point of the row to the next; groups of 16 channels
  int64_t group;          // numbers from one group to the next
};
void winograd_lines_f32(const WinogradLines& in);
void winograd_lines_bf16(const WinogradLines& in);

// sums[i * stride + j] = (fresh ? 0 : itself) + sum over tiles of left[tile, i] * right[tile, j]; i < 16, j < 32. The tiles are
// summed first: added to a long sum one by one, they lost a digit where there are tens of thousands. `right` is
// two groups, `group` numbers apart.
struct WinogradSums {
  const void *left, *right;
  int64_t group, tiles;  // tiles: even
  float* sums;
  int64_t stride;
  bool fresh;
};
void winograd_sums_f32(const WinogradSums& in);
void winograd_sums_bf16(const WinogradSums& in);

// taps[(y * 3 + x) * channels + c] = (G^T u G)[y, x] with u[p] the sum of points[s * slice + p * point + c] over the slices.
struct WinogradTaps {
  const float* points;
  int64_t slices, slice, point, channels;  // channels: a multiple of 16
  float* taps;
};
void winograd_taps(const WinogradTaps& in);

}  // namespace lpld
