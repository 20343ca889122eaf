#include "ops/crop_flip_roll.h"

#include "core/aten.h"

namespace lpld {

namespace {
// Fills one [P, P] map of an axis: output position i reads source positions start .. start+length-1.
template <class T>
void axis_map(T* map, int64_t size, int64_t start, int64_t length, bool mirror, int64_t shift) {
  const T scale = T(length) / T(size);
  for (int64_t i = 0; i < size; ++i) {
    int64_t resized = ((i - shift) % size + size) % size;
    if (mirror) resized = size - 1 - resized;
    const T at = std::max(scale * (T(resized) + T(0.5)) - T(0.5), T(0));
    const int64_t low = std::min(int64_t(at), length - 1);
    const int64_t high = std::min(low + 1, length - 1);
    const T weight = at - T(low);
    map[i * size + start + low] += T(1) - weight;
    map[i * size + start + high] += weight;
  }
}
}  // namespace

at::Tensor crop_flip_roll(const at::Tensor& x, const at::Tensor& crop, const at::Tensor& flip, const at::Tensor& roll) {
  LPLD_CHECK(x.dim() == 4 && x.size(2) == x.size(3), Internal, "crop_flip_roll: expected x [G*n, C, P, P], received ",
             x.sizes());
  LPLD_CHECK(crop.dim() == 2 && crop.size(0) > 0 && crop.size(1) == 4, Internal,
             "crop_flip_roll: expected crop [G, 4] with G > 0, received ", crop.sizes());
  const int64_t groups = crop.size(0), size = x.size(2), images = x.size(0) / groups;
  LPLD_CHECK(flip.numel() == groups && roll.numel() == 2 * groups && images * groups == x.size(0), Internal,
             "crop_flip_roll: expected crop [G,4], flip [G], roll [G,2] for x ", x.sizes(), ", received ", crop.sizes(),
             ", ", flip.sizes(), ", ", roll.sizes());
  const auto host = at::TensorOptions().dtype(x.scalar_type());
  at::Tensor rows = at::zeros({groups, size, size}, host),
             columns = at::zeros({groups, size, size}, host);  // [G, P, P]
  const int32_t* box = crop.const_data_ptr<int32_t>();
  const uint8_t* coin = flip.const_data_ptr<uint8_t>();
  const int32_t* by = roll.const_data_ptr<int32_t>();
  const auto fill = [&](auto* r, auto* c) {
    for (int64_t g = 0; g < groups; ++g, box += 4) {
      LPLD_CHECK(
          box[0] >= 0 && box[1] >= 0 && box[2] > 0 && box[3] > 0 && box[0] + box[2] <= size && box[1] + box[3] <= size,
          Internal, "crop_flip_roll: expected a crop inside ", size, "x", size, ", received ", box[0], ",", box[1], " ",
          box[2], "x", box[3]);
      axis_map(r + g * size * size, size, box[0], box[2], false, by[2 * g]);
      axis_map(c + g * size * size, size, box[1], box[3], coin[g] != 0, by[2 * g + 1]);
    }
  };
  if (x.scalar_type() == at::kDouble)
    fill(rows.mutable_data_ptr<double>(), columns.mutable_data_ptr<double>());
  else
    fill(rows.mutable_data_ptr<float>(), columns.mutable_data_ptr<float>());
  rows = rows.to(x.device()).view({groups, 1, 1, size, size});
  columns = columns.transpose(1, 2).contiguous().to(x.device()).view({groups, 1, 1, size, size});
  const at::Tensor grouped = x.view({groups, images, x.size(1), size, size});
  return at::matmul(at::matmul(rows, grouped), columns).view(x.sizes());
}

}  // namespace lpld
