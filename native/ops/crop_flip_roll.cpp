#include "ops/crop_flip_roll.h"

#include "core/aten.h"
#include "core/kernels.h"
#include "ops/axis_taps.h"
#include "ops/crop_flip_roll_lines.h"

namespace lpld {

namespace {
// Fills one [P, P] map of an axis: output position i reads two source positions of the crop.
template <class T>
void axis_map(T* map, const Axis<T>& axis) {
  for (int64_t i = 0; i < axis.size; ++i) {
    const Tap<T> tap = axis_tap(axis, i);
    map[i * axis.size + axis.start + tap.low] += T(1) - tap.weight;
    map[i * axis.size + axis.start + tap.high] += tap.weight;
  }
}

// x [G*n, C, P, P], two small matrices a group: y = R x C^T. For float64, and for CUDA without our kernels.
at::Tensor composed(const at::Tensor& x, const SynthesisDraws& draws) {
  const int64_t groups = draws.crop.size(1), size = x.size(2);
  const int64_t step = draws.step.item<int64_t>();
  const at::Tensor crop = draws.crop[step].cpu(), flip = draws.flip[step].cpu(), roll = draws.roll[step].cpu();
  const auto host = at::TensorOptions().dtype(x.scalar_type());
  at::Tensor rows = at::zeros({groups, size, size}, host),
             columns = at::zeros({groups, size, size}, host);  // [G, P, P]
  const int32_t *box = crop.const_data_ptr<int32_t>(), *by = roll.const_data_ptr<int32_t>();
  const uint8_t* coin = flip.const_data_ptr<uint8_t>();
  const auto fill = [&]<class T>(T* r, T* c) {
    for (int64_t g = 0; g < groups; ++g, box += 4) {
      axis_map(r + g * size * size, Axis<T>{size, box[0], box[2], false, by[2 * g]});
      axis_map(c + g * size * size, Axis<T>{size, box[1], box[3], coin[g] != 0, by[2 * g + 1]});
    }
  };
  if (x.scalar_type() == at::kDouble)
    fill(rows.mutable_data_ptr<double>(), columns.mutable_data_ptr<double>());
  else
    fill(rows.mutable_data_ptr<float>(), columns.mutable_data_ptr<float>());
  rows = rows.to(x.device()).view({groups, 1, 1, size, size});
  columns = columns.transpose(1, 2).contiguous().to(x.device()).view({groups, 1, 1, size, size});
  const at::Tensor grouped = x.view({groups, x.size(0) / groups, x.size(1), size, size});
  return at::matmul(at::matmul(rows, grouped), columns).view(x.sizes());
}

CropArgs arguments(const at::Tensor& from, at::Tensor& to, const at::Tensor& crop, const at::Tensor& flip,
                   const at::Tensor& roll, const at::Tensor& step) {
  const int64_t groups = crop.size(1);
  return {from.const_data_ptr<float>(),
          to.mutable_data_ptr<float>(),
          crop.const_data_ptr<int32_t>(),
          flip.const_data_ptr<uint8_t>(),
          roll.const_data_ptr<int32_t>(),
          step.const_data_ptr<int64_t>(),
          groups,
          from.size(0) / groups,
          from.size(1),
          from.size(2)};
}

// Kernels or lines as one autograd node. The draw is read at the counter's value in both directions: it may move only after the
// backward.
struct CropFunction : torch::autograd::Function<CropFunction> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, const at::Tensor& x, const at::Tensor& crop, const at::Tensor& flip,
                            const at::Tensor& roll, const at::Tensor& step) {
    context->save_for_backward({crop, flip, roll, step});
    const at::Tensor from = x.contiguous();
    at::Tensor y = at::empty(x.sizes(), x.options(), at::MemoryFormat::ChannelsLast);
    const CropArgs args = arguments(from, y, crop, flip, roll, step);
    if (const KernelTable* kernels = kernels_for(x))
      launch("crop_flip_roll", kernels->crop_forward, x, args);
    else
      crop_forward_lines(args);
    return y;
  }
  static List backward(Context* context, List grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor dy = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    at::Tensor dx = at::empty(dy.sizes(), dy.options(), at::MemoryFormat::Contiguous);
    const CropArgs args = arguments(dy, dx, saved[0], saved[1], saved[2], saved[3]);
    if (const KernelTable* kernels = kernels_for(dy))
      launch("crop_flip_roll", kernels->crop_backward, dy, args);
    else
      crop_backward_lines(args);
    return {dx, {}, {}, {}, {}};
  }
};
}  // namespace

SynthesisDraws::SynthesisDraws(const at::Tensor& crop, const at::Tensor& flip, const at::Tensor& roll, int64_t size,
                               const at::Device& device) {
  LPLD_CHECK(crop.dim() == 3 && crop.size(1) > 0 && crop.size(2) == 4 && flip.dim() == 2 &&
                 flip.numel() * 4 == crop.numel() && roll.dim() == 3 && roll.numel() * 2 == crop.numel() &&
                 flip.size(0) == crop.size(0) && roll.size(0) == crop.size(0),
             Internal, "crop_flip_roll: expected crop [S, G, 4] with G > 0, flip [S, G], roll [S, G, 2], received ",
             crop.sizes(), ", ", flip.sizes(), ", ", roll.sizes());
  const int32_t* box = crop.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < flip.numel(); ++i, box += 4)
    LPLD_CHECK(box[0] >= 0 && box[1] >= 0 && box[2] > 0 && box[3] > 0 && int64_t{box[0]} + box[2] <= size &&
                   int64_t{box[1]} + box[3] <= size,
               Internal, "crop_flip_roll: expected a crop inside ", size, "x", size, ", received ", box[0], ",", box[1],
               " ", box[2], "x", box[3]);
  this->crop = crop.contiguous().to(device);
  this->flip = flip.contiguous().to(device);
  this->roll = roll.contiguous().to(device);
  step = at::zeros({1}, at::TensorOptions().dtype(at::kLong).device(device));
}

at::Tensor crop_flip_roll(const at::Tensor& x, const SynthesisDraws& draws) {
  LPLD_CHECK(x.dim() == 4 && x.size(2) == x.size(3) && x.size(0) % draws.crop.size(1) == 0, Internal,
             "crop_flip_roll: expected x [G*n, C, P, P] for G = ", draws.crop.size(1), ", received ", x.sizes());
  if (x.scalar_type() != at::kFloat || (!x.is_cpu() && kernels_for(x) == nullptr)) return composed(x, draws);
  return CropFunction::apply(x, draws.crop, draws.flip, draws.roll, draws.step);
}

}  // namespace lpld
