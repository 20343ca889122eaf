#include "data/image_store.h"

#include "core/aten.h"
#include "ops/resized_crop.h"

namespace lpld {

ImageStore::ImageStore(int64_t channels, std::string device) : channels_(channels), device_(std::move(device)) {
  LPLD_CHECK(channels == 1 || channels == 3, Config, "expected 1 or 3 for channels, received ", channels);
}

void ImageStore::append(const uint8_t* images, int64_t bytes, const int32_t* labels, int64_t count,
                        const AppendSpec& spec) {
  constexpr int64_t kLongest = 65535;  // px, as JPEG allows; sizes below stay far inside int64
  LPLD_CHECK(spec.height > 0 && spec.width > 0 && spec.height <= kLongest && spec.width <= kLongest, Data,
             "expected images of 1 to ", kLongest, " px a side, received ", spec.height, "x", spec.width);
  LPLD_CHECK(spec.size <= kLongest && spec.center_crop >= 0, Config, "expected a stored size up to ", kLongest,
             " px and a centre crop >= 0, received ", spec.size, " and ", spec.center_crop);
  const int64_t source = spec.height * spec.width * channels_;
  LPLD_CHECK(bytes == source * count, Data, "expected ", count, " images of ", spec.height, "x", spec.width, "x",
             channels_, ", received ", bytes, " bytes");
  for (int64_t i = 0; i < count; ++i) LPLD_CHECK(labels[i] >= 0, Data, "expected class ids >= 0, received ", labels[i]);

  int64_t height = spec.height, width = spec.width;
  if (spec.resize == AppendResize::Exact) height = width = spec.size;
  if (spec.resize == AppendResize::Shorter) {  // torchvision: the longer side is truncated, not rounded
    const int64_t shorter = std::min(height, width), longer = std::max(height, width);
    const int64_t scaled = spec.size * longer / shorter;
    height = spec.height <= spec.width ? spec.size : scaled;
    width = spec.height <= spec.width ? scaled : spec.size;
  }
  int64_t top = 0, left = 0, out_height = height, out_width = width;
  if (spec.center_crop > 0) {
    LPLD_CHECK(spec.center_crop <= height && spec.center_crop <= width, Config, "expected a centre crop of at most ",
               std::min(height, width), " px for an image but received ", spec.center_crop);
    // torchvision's CenterCrop rounds the offset half to even
    const auto offset = [&](int64_t length) {
      const int64_t slack = length - spec.center_crop;
      return slack / 2 + ((slack & 1) && ((slack / 2) & 1) ? 1 : 0);
    };
    top = offset(height);
    left = offset(width);
    out_height = out_width = spec.center_crop;
  }

  const int64_t stored = out_height * out_width * channels_;
  uploaded_ = {};
  pixels_.reserve(pixels_.size() + size_t(stored * count));
  std::vector<uint8_t> resized(size_t(height * width * channels_));
  Resizer resizer;
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* pixels = images + i * source;
    if (height != spec.height || width != spec.width) {
      resizer.resized_crop(pixels, spec.height, spec.width, channels_,
                           {0, 0, int32_t(spec.height), int32_t(spec.width)}, false, height, width, resized.data());
      pixels = resized.data();
    }
    const int64_t offset = int64_t(pixels_.size());
    for (int64_t y = 0; y < out_height; ++y) {
      const uint8_t* row = pixels + ((top + y) * width + left) * channels_;
      pixels_.insert(pixels_.end(), row, row + out_width * channels_);
    }
    images_.push_back({offset, int32_t(out_height), int32_t(out_width)});
    labels_.push_back(labels[i]);
    classes_ = std::max(classes_, int64_t{labels[i]} + 1);
  }
}

const ImageStore::Device& ImageStore::on_device() const {
  if (uploaded_.pixels.defined()) return uploaded_;
  const at::Device device(device_);
  at::Tensor pixels = at::empty({bytes()}, at::kByte), offset = at::empty({count()}, at::kLong),
             size = at::empty({count(), 2}, at::kInt);
  std::memcpy(pixels.mutable_data_ptr(), pixels_.data(), pixels_.size());
  for (int64_t i = 0; i < count(); ++i) {
    offset.mutable_data_ptr<int64_t>()[i] = image(i).offset;
    size.mutable_data_ptr<int32_t>()[2 * i] = image(i).height;
    size.mutable_data_ptr<int32_t>()[2 * i + 1] = image(i).width;
  }
  uploaded_ = {pixels.to(device), offset.to(device), size.to(device)};
  return uploaded_;
}

}  // namespace lpld
