#include "data/recipes.h"

#include "core/aten.h"
#include "core/device.h"
#include "core/kernels.h"
#include "ops/box.h"
#include "ops/resized_crop.h"

namespace lpld {

namespace {
template <class T>
const T* rows(const at::Tensor& field, int64_t row, int64_t width = 1) {
  return field.const_data_ptr<T>() + row * width;
}
}  // namespace

int64_t Recipes::steps() const { return offset.size(0) - 1; }
int64_t Recipes::begin(int64_t step) const { return offset.const_data_ptr<int32_t>()[step]; }
int64_t Recipes::end(int64_t step) const { return offset.const_data_ptr<int32_t>()[step + 1]; }

void Recipes::check_rows() const {
  LPLD_CHECK(offset.dim() == 1 && offset.numel() >= 1 && index.dim() == 1, Data,
             "recipes: expected offset [S + 1] and index [M], received ", offset.sizes(), " and ", index.sizes());
  const int64_t m = index.size(0);
  LPLD_CHECK(offset.size(0) >= 1 && begin(0) == 0 && offset.const_data_ptr<int32_t>()[steps()] == m &&
                 crop.numel() == 4 * m && flip.numel() == m && cutout.numel() == 4 * m &&
                 cutout_color.numel() == 3 * m && mix_kind.numel() == m && mix_index.numel() == m &&
                 mix_box.numel() == 4 * m && lambda.numel() == m,
             Data, "recipes: expected ", m, " rows in every field and offsets from 0 to ", m);
  for (int64_t step = 0; step < steps(); ++step) {
    const int64_t from = begin(step), to = end(step);
    LPLD_CHECK(from < to && to <= m, Data, "recipes: expected a batch of at least one row at step ", step);
    for (int64_t row = from; row < to; ++row) {
      const int32_t partner = *rows<int32_t>(mix_index, row);
      LPLD_CHECK(partner >= 0 && partner < to - from, Data, "recipes: expected a mix partner below ", to - from,
                 " at row ", row, ", received ", partner);
    }
  }
}

void Recipes::check(const ImageStore& store, int64_t size) const {
  check_rows();
  LPLD_CHECK(size > 0, Data, "recipes: expected a size > 0, received ", size);
  for (int64_t row = 0; row < index.size(0); ++row) {
    const int32_t image = *rows<int32_t>(index, row);
    LPLD_CHECK(image >= 0 && image < store.count(), Data, "recipes: expected an image index below ", store.count(),
               " at row ", row, ", received ", image);
    const int32_t* c = rows<int32_t>(crop, row, 4);
    const auto& stored = store.image(image);
    LPLD_CHECK(c[0] >= 0 && c[1] >= 0 && c[2] > 0 && c[3] > 0 && int64_t{c[0]} + c[2] <= stored.height &&
                   int64_t{c[1]} + c[3] <= stored.width,
               Data, "recipes: expected a crop inside ", stored.height, "x", stored.width, " at row ", row,
               ", received ", c[0], ",", c[1], " ", c[2], "x", c[3]);
    for (const at::Tensor& boxes : {cutout, mix_box}) {
      const int32_t* b = rows<int32_t>(boxes, row, 4);
      LPLD_CHECK(box_fits(b, size), Data, "recipes: expected a ", boxes.is_same(cutout) ? "cutout" : "mix box",
                 " inside ", size, "x", size, " at row ", row, ", received ", b[0], ",", b[1], " ", b[2], "x", b[3]);
    }
    const int kind = *rows<uint8_t>(mix_kind, row);
    LPLD_CHECK(kind <= 2, Data, "recipes: expected a mix kind of 0 to 2 at row ", row, ", received ", kind);
  }
}

void PixelHash::add(const void* bytes, size_t count) {
  const auto* p = static_cast<const uint8_t*>(bytes);
  for (size_t i = 0; i < count; ++i) state_ = (state_ ^ p[i]) * 0x100000001b3ull;
}

std::string PixelHash::hex() const {
  static const char* digits = "0123456789abcdef";
  std::string out(16, '0');
  for (int i = 0; i < 16; ++i) out[size_t(i)] = digits[(state_ >> (60 - 4 * i)) & 15];
  return out;
}

namespace {

// The pixels of a batch, uint8 [B, P, P, C] on the CPU: crop, resize, flip, cutout, then CutMix from the unmixed batch.
at::Tensor render_cpu(const ImageStore& store, const Recipes& recipes, int64_t step, int64_t size) {
  const int64_t from = recipes.begin(step), count = recipes.end(step) - from, channels = store.channels();
  const int64_t bytes = size * size * channels;
  at::Tensor plain = at::empty({count, size, size, channels}, at::kByte), mixed = plain;
  uint8_t* out = plain.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, count, std::max<int64_t>(1, 65536 / bytes), [&](int64_t begin, int64_t end) {
    thread_local Resizer resizer;
    for (int64_t i = begin; i < end; ++i) {
      const int32_t image = *rows<int32_t>(recipes.index, from + i);
      const int32_t* c = rows<int32_t>(recipes.crop, from + i, 4);
      const auto& stored = store.image(image);
      resizer.resized_crop(store.pixels(image), stored.height, stored.width, channels, {c[0], c[1], c[2], c[3]},
                           *rows<uint8_t>(recipes.flip, from + i) != 0, size, size, out + i * bytes);
      const int32_t* hole = rows<int32_t>(recipes.cutout, from + i, 4);
      const uint8_t* color = rows<uint8_t>(recipes.cutout_color, from + i, 3);
      for (int64_t y = hole[0]; y < hole[0] + hole[2]; ++y)
        for (int64_t x = hole[1]; x < hole[1] + hole[3]; ++x)
          std::copy_n(color, channels, out + i * bytes + (y * size + x) * channels);
    }
  });
  for (int64_t i = 0; i < count; ++i) {
    if (MixKind(*rows<uint8_t>(recipes.mix_kind, from + i)) != MixKind::CutMix) continue;
    if (mixed.is_same(plain)) mixed = plain.clone();  // partners are read before they are pasted over
    const int64_t partner = *rows<int32_t>(recipes.mix_index, from + i);
    const int32_t* box = rows<int32_t>(recipes.mix_box, from + i, 4);
    uint8_t* to = mixed.mutable_data_ptr<uint8_t>() + i * bytes;
    for (int64_t y = box[0]; y < box[0] + box[2]; ++y) {
      const int64_t at = (y * size + box[1]) * channels;
      std::memcpy(to + at, out + partner * bytes + at, size_t(box[3] * channels));
    }
  }
  return mixed;
}

// The same on the store's device, through the kernels' own library.
at::Tensor render_kernel(const ImageStore& store, const Recipes& recipes, int64_t step, int64_t size) {
  const at::Device device(store.device());
  const int64_t from = recipes.begin(step), count = recipes.end(step) - from;
  const auto upload = [&](const at::Tensor& field) { return field.narrow(0, from, count).to(device); };
  const auto& images = store.on_device();
  const at::Tensor index = upload(recipes.index), crop = upload(recipes.crop), flip = upload(recipes.flip),
                   cutout = upload(recipes.cutout), color = upload(recipes.cutout_color),
                   kind = upload(recipes.mix_kind), partner = upload(recipes.mix_index), box = upload(recipes.mix_box);
  const auto bytes = at::TensorOptions().dtype(at::kByte).device(device);
  at::Tensor plain = at::empty({count, size, size, store.channels()}, bytes), mixed = at::empty_like(plain);
  const RenderArgs args{images.pixels.const_data_ptr<uint8_t>(),
                        images.offset.const_data_ptr<int64_t>(),
                        images.size.const_data_ptr<int32_t>(),
                        index.const_data_ptr<int32_t>(),
                        crop.const_data_ptr<int32_t>(),
                        flip.const_data_ptr<uint8_t>(),
                        cutout.const_data_ptr<int32_t>(),
                        color.const_data_ptr<uint8_t>(),
                        kind.const_data_ptr<uint8_t>(),
                        partner.const_data_ptr<int32_t>(),
                        box.const_data_ptr<int32_t>(),
                        plain.mutable_data_ptr<uint8_t>(),
                        mixed.mutable_data_ptr<uint8_t>(),
                        count,
                        size,
                        store.channels()};
  launch("render", kernels_for(mixed)->render, mixed, args);
  return mixed;
}

}  // namespace

Batch render_batch(const ImageStore& store, const Recipes& recipes, int64_t step, int64_t size, PixelHash* hash) {
  const int64_t from = recipes.begin(step), count = recipes.end(step) - from;
  const bool kernel = kernels_for(at::empty({0}, at::TensorOptions().device(at::Device(store.device())))) != nullptr;
  Batch batch;
  batch.pixels = kernel ? render_kernel(store, recipes, step, size) : render_cpu(store, recipes, step, size);
  batch.labels = at::empty({count}, at::kLong);
  batch.partner_labels = at::empty({count}, at::kLong);
  batch.own_share = recipes.lambda.narrow(0, from, count).clone();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t partner = *rows<int32_t>(recipes.mix_index, from + i);
    batch.labels.mutable_data_ptr<int64_t>()[i] = store.label(*rows<int32_t>(recipes.index, from + i));
    batch.partner_labels.mutable_data_ptr<int64_t>()[i] = store.label(*rows<int32_t>(recipes.index, from + partner));
  }
  if (hash != nullptr) {
    const at::Tensor pixels = batch.pixels.cpu();
    hash->add(pixels.const_data_ptr<uint8_t>(), pixels.nbytes());
    hash->add(rows<uint8_t>(recipes.mix_kind, from), size_t(count));
    hash->add(rows<int32_t>(recipes.mix_index, from), size_t(count) * 4);
    hash->add(rows<float>(recipes.lambda, from), size_t(count) * 4);
  }
  return batch;
}

at::Tensor network_input(const Batch& batch, const Recipes& recipes, int64_t step, const InputSpec& input,
                         const std::string& device) {
  const int64_t count = batch.pixels.size(0), size = batch.pixels.size(1), channels = batch.pixels.size(3);
  const int64_t from = recipes.begin(step);
  LPLD_CHECK(input.normalize.size(0) == channels, Internal, "expected input.normalize [", channels, ", 256], received ",
             input.normalize.sizes());
  at::Tensor x;  // [B, C, P, P] channels-last
  if (batch.pixels.is_cuda()) {
    const at::Tensor table = input.normalize.to(batch.pixels.device());
    std::vector<at::Tensor> planes;
    for (int64_t c = 0; c < channels; ++c)
      planes.push_back(table[c].take(batch.pixels.select(3, c).to(at::kLong)));  // [B, P, P]
    x = at::stack(planes, 3).permute({0, 3, 1, 2});
  } else {
    x = at::empty({count, channels, size, size}, at::TensorOptions().dtype(at::kFloat), at::MemoryFormat::ChannelsLast);
    const uint8_t* source = batch.pixels.const_data_ptr<uint8_t>();
    const float* table = input.normalize.const_data_ptr<float>();
    float* out = x.mutable_data_ptr<float>();
    const int64_t pixels = size * size;
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * pixels; i < end * pixels; ++i)
        for (int64_t c = 0; c < channels; ++c) out[i * channels + c] = table[c * 256 + source[i * channels + c]];
    });
  }
  bool mixup = false;
  const uint8_t* kinds = rows<uint8_t>(recipes.mix_kind, from);
  for (int64_t i = 0; i < count; ++i) mixup |= MixKind(kinds[i]) == MixKind::Mixup;
  if (mixup) {
    const at::Tensor partners = recipes.mix_index.narrow(0, from, count).to(at::kLong);
    const at::Tensor is_mixup = recipes.mix_kind.narrow(0, from, count).eq(int64_t(MixKind::Mixup));
    const at::Tensor share = at::where(is_mixup, batch.own_share, at::ones({count}, at::kFloat)).view({-1, 1, 1, 1});
    const at::Tensor own = share.to(x.device()), partner = x.index_select(0, partners.to(x.device()));
    x = (x * own + partner * (1 - own)).contiguous(at::MemoryFormat::ChannelsLast);
  }
  return x.to(at::Device(device));
}

}  // namespace lpld
