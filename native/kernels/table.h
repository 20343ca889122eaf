#pragma once
// The table of CUDA kernels in liblpld_kernels.so: raw pointers, sizes and a stream, no torch type. One C
// symbol, lpld_kernels_v1(), returns it; a function returns 0 or a cudaError_t.
#include <cstdint>

namespace lpld {

// One rendered batch. All pointers are device memory; see native/data/recipes.h for the fields' meaning.
struct RenderArgs {
  const uint8_t* pixels;        // all stored images, packed
  const int64_t* image_offset;  // [N] first byte of each image
  const int32_t* image_size;    // [N, 2] height, width
  const int32_t* index;         // [B]
  const int32_t* crop;          // [B, 4]
  const uint8_t* flip;          // [B]
  const int32_t* cutout;        // [B, 4]
  const uint8_t* cutout_color;  // [B, 3]
  const uint8_t* mix_kind;      // [B]
  const int32_t* mix_index;     // [B]
  const int32_t* mix_box;       // [B, 4]
  uint8_t* plain;               // [B, P, P, C] before mixing
  uint8_t* mixed;               // [B, P, P, C]
  int64_t batch, size, channels;
};

int render(const RenderArgs& args, void* stream);

struct KernelTable {
  int (*render)(const RenderArgs& args, void* stream);
};

}  // namespace lpld

extern "C" {
const lpld::KernelTable* lpld_kernels_v1();
}
