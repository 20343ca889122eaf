#pragma once
// The two ends of a Winograd convolution (winograd_conv.h) over tiles that lie side by side in one row of tiles of one
// image: pixels to points before the matrix products, products to pixels after them. Channels-last, in multiples of 32;
// float, or bfloat16 as its 16 bits.
// Plain C++, compiled for several instruction sets and chosen at load time.
//   source  Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.1
#include <cstdint>

namespace lpld {

// A tile gives `tile` x `tile` outputs (2 or 4) and reads `tile + 2` pixels a side, one of them before its first output.
struct TileRow {
  int64_t tile, height, width;  // of the image, in pixels: outside it are zeros
  int64_t y, x;                 // pixel of the first tile's first output
  int64_t tiles;
};

// points[p * stride + i * channels + c] = (B^T d B)[p] of tile i and channel c; p counts the (tile + 2)^2 points row by row.
struct WinogradInput {
  TileRow row;
  const void* image;  // [height, width, channels]
  void* points;       // like image
  int64_t stride, channels;
};
void winograd_input_f32(const WinogradInput& in);
void winograd_input_bf16(const WinogradInput& in);

// image[y, x, o] = act((A^T m A)[y, x] + bias[o] + residual[y, x, o]) with m = products[p * stride + i * 64 + o], o < 64.
struct WinogradOutput {
  TileRow row;
  const float* products;
  int64_t stride;
  void* image;           // [height, width, outputs], from the block's first output on
  const void* residual;  // likewise, or null
  const float* bias;     // [64], or null
  int64_t outputs;
  bool relu;
};
void winograd_output_f32(const WinogradOutput& out);
void winograd_output_bf16(const WinogradOutput& out);

}  // namespace lpld
