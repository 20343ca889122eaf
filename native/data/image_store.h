#pragma once
// ImageStore: the images of one split as uint8 with their class ids, packed one after the other (sizes may
// differ). Reads no files: TypeScript hands decoded pixels over. A resize on append is Pillow's, once.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lpld {

enum class AppendResize { None, Exact, Shorter };
struct AppendSpec {
  int64_t height, width;  // px of the given images
  AppendResize resize;    // Exact: to [size, size]; Shorter: shorter side to size, aspect kept (torchvision's Resize)
  int64_t size;
  int64_t center_crop;  // px, 0 for none
};

class ImageStore {
 public:
  ImageStore(int64_t channels, std::string device);

  // images: uint8 [n, height, width, C] packed. Throws E_DATA for a byte count that does not fit, or a
  // negative label.
  void append(const uint8_t* images, int64_t bytes, const int32_t* labels, int64_t count, const AppendSpec& spec);

  struct Image {
    int64_t offset;
    int32_t height, width;
  };
  int64_t count() const { return int64_t(images_.size()); }
  int64_t channels() const { return channels_; }
  int64_t bytes() const { return int64_t(pixels_.size()); }
  const std::string& device() const { return device_; }
  const Image& image(int64_t index) const { return images_[size_t(index)]; }
  const uint8_t* pixels(int64_t index) const { return pixels_.data() + image(index).offset; }
  int32_t label(int64_t index) const { return labels_[size_t(index)]; }
  const std::vector<int32_t>& labels() const { return labels_; }
  int64_t classes() const { return classes_; }  // largest class id + 1

  // The same images on the store's CUDA device, uploaded on first use and again after an append.
  struct Device {
    at::Tensor pixels, offset, size;  // uint8 [bytes], int64 [N], int32 [N, 2]
  };
  const Device& on_device() const;

 private:
  int64_t channels_;
  std::string device_;
  std::vector<uint8_t> pixels_;
  std::vector<Image> images_;
  std::vector<int32_t> labels_;
  int64_t classes_ = 0;
  mutable Device uploaded_;
};

}  // namespace lpld
