#pragma once
// Boxes of a square image as Recipes write them: int32 top, left, height, width in px; a box without height or width is
// empty. Host-device inline arithmetic, so that the CPU body and the CUDA kernel agree on every border pixel.
#include <cstdint>

#include "ops/resample.h"

namespace lpld {

// Whether the box lies inside [size, size].
LPLD_HD bool box_fits(const int32_t* box, int64_t size) {
  return box[0] >= 0 && box[1] >= 0 && box[2] >= 0 && box[3] >= 0 && int64_t{box[0]} + box[2] <= size &&
         int64_t{box[1]} + box[3] <= size;
}

// Whether pixel (row y, column x) lies in the box; its last row is top + height - 1.
LPLD_HD bool box_holds(const int32_t* box, int64_t y, int64_t x) {
  return y >= box[0] && y < int64_t{box[0]} + box[2] && x >= box[1] && x < int64_t{box[1]} + box[3];
}

}  // namespace lpld
