#pragma once
// resized_crop: crop of a uint8 image, resized to P x P as Pillow's bilinear does it, then flipped.
//   source   uint8 [height, width, C], packed; C 1 or 3
//   crop     top, left, height, width in whole px of the source, inside it
//   target   uint8 [P_h, P_w, C], packed
//   throws   E_DATA if the crop leaves the image, E_INTERNAL for another C
//   source   Pillow Resample.c as specified in methods 0.8; the crop is an image of its own, as torchvision crops first
//   tested   test/ops/resized-crop.test.ts against Pillow's bytes and test/reference/resized-crop.ts
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace lpld {

struct CropBox {
  int32_t top, left, height, width;
};

// Weights of one axis for one (in, out) pair: out windows of `taps` slots.
struct AxisWeights {
  int taps;
  std::vector<int> first, count;  // [out]
  std::vector<int> weight;        // [out * taps]
};

// Keeps weights and the row buffer between images; one per thread.
class Resizer {
 public:
  void resized_crop(const uint8_t* source, int64_t height, int64_t width, int64_t channels, CropBox crop, bool flip,
                    int64_t out_height, int64_t out_width, uint8_t* target);

 private:
  const AxisWeights& weights(int in, int out);
  std::map<std::pair<int, int>, AxisWeights> cache_;
  std::vector<uint8_t> rows_, columns_;
  std::vector<int> sums_;
};

}  // namespace lpld
