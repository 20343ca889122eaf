#include "ops/winograd_conv.h"

#include <ATen/native/CPUBlas.h>

#include "core/aten.h"
#include "core/device.h"
#include "ops/winograd_tiles.h"
#include "ops/winograd_weight_gradient.h"

namespace lpld {

namespace {

namespace blas = at::native::cpublas;

constexpr int64_t kBlock = kWinogradBlock;
constexpr int64_t kTiles = 64;  // most tiles of one: measured
// Elements between one position's points and the next's, beyond the tiles: else all would share a set of the cache.
constexpr int64_t kSkew = 32;

// oneDNN's matrix product of small blocks, as LibTorch exports it. Whether it is there for bfloat16 shows when it is called;
// for float LibTorch has another in its place.
template <class T>
bool multiplies() {
  std::vector<T> a{T(1), T(2)}, b(size_t(2 * kBlock));
  std::vector<float> c(size_t{kBlock}, -1.0f);
  const bool pairs = std::is_same_v<T, at::BFloat16>;
  for (int64_t n = 0; n < kBlock; ++n) {
    b[size_t(pairs ? 2 * n : n)] = T(float(n));
    b[size_t(pairs ? 2 * n + 1 : kBlock + n)] = T(3);
  }
  try {
    blas::brgemm(1, kBlock, 2, 2, kBlock, kBlock, false, a.data(), b.data(), c.data(), pairs);
    blas::brgemm_release(pairs);
  } catch (const c10::Error&) {
    return false;
  }
  for (int64_t n = 0; n < kBlock; ++n)
    if (c[size_t(n)] != float(n) + 6) return false;
  return true;
}

bool can_multiply(at::ScalarType dtype) {
  if (!at::globalContext().userEnabledMkldnn()) return false;
  static const bool single = multiplies<float>(), half = multiplies<at::BFloat16>();
  return dtype == at::kFloat ? single : dtype == at::kBFloat16 && half;
}

struct Shape {
  int64_t height, width, down, across, tiles;  // of an image; tiles of the whole batch
  Shape(const at::Tensor& x, int64_t tile)
      : height(x.size(2)),
        width(x.size(3)),
        down((height + tile - 1) / tile),
        across((width + tile - 1) / tile),
        tiles(x.size(0) * down * across) {}
};

// f(image, row of tiles, position among `count` tiles) for each piece of tiles [first, first + count) in one row.
template <class F>
void each_row(const Shape& shape, int64_t tile, int64_t first, int64_t count, const F& f) {
  for (int64_t i = 0; i < count;) {
    const int64_t column = (first + i) % shape.across, row = (first + i) / shape.across;
    const int64_t tiles = std::min(count - i, shape.across - column);
    f(row / shape.down, TileRow{tile, shape.height, shape.width, row % shape.down * tile, column * tile, tiles}, i);
    i += tiles;
  }
}

template <class T>
void convolve(const at::Tensor& x, const WinogradWeights& weights, const WinogradTail& tail, at::Tensor& y) {
  constexpr bool kHalf = std::is_same_v<T, at::BFloat16>;
  const int64_t tile = weights.tile(), channels = weights.channels(), outputs = weights.outputs();
  const Shape shape(x, tile);
  const int64_t points = (tile + 2) * (tile + 2), blocks = outputs / kBlock, pixels = shape.height * shape.width;
  // Parts of equal size, dealt to as many slots as there are threads.
  const int64_t workers = at::get_num_threads(), most = kTiles * workers;
  const int64_t rounds = (shape.tiles + most - 1) / most;
  const int64_t each = (shape.tiles + rounds * workers - 1) / (rounds * workers);
  const int64_t parts = (shape.tiles + each - 1) / each, slots = std::min(workers, parts);
  // Scratch of a slot: the points of a part, then its products. Never a tensor: a deterministic job would fill it first.
  const int64_t v_stride = each * channels + kSkew, m_stride = each * kBlock + kSkew;
  const int64_t v_bytes = points * v_stride * int64_t(sizeof(T)), m_bytes = points * m_stride * int64_t(sizeof(float));
  const c10::DataPtr scratch = c10::GetCPUAllocator()->allocate(size_t(slots * (v_bytes + m_bytes)));
  const T *image = x.const_data_ptr<T>(), *weight = weights.points.const_data_ptr<T>();
  const T* residual = tail.residual.defined() ? tail.residual.const_data_ptr<T>() : nullptr;
  const float* bias = tail.bias.defined() ? tail.bias.const_data_ptr<float>() : nullptr;
  T* out = y.mutable_data_ptr<T>();
  const auto one_part = [&](int64_t part, T* v, float* m) {
    const int64_t first = part * each, count = std::min(each, shape.tiles - first);
    each_row(shape, tile, first, count, [&](int64_t b, const TileRow& row, int64_t i) {
      const WinogradInput in{row, image + b * pixels * channels, v + i * channels, v_stride, channels};
      kHalf ? winograd_input_bf16(in) : winograd_input_f32(in);
    });
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t p = 0; p < points; ++p)
        blas::brgemm(count, kBlock, channels, channels, kBlock, kBlock, false, v + p * v_stride,
                     weight + (p * blocks + block) * channels * kBlock, m + p * m_stride, kHalf);
      const int64_t o = block * kBlock;
      each_row(shape, tile, first, count, [&](int64_t b, const TileRow& row, int64_t i) {
        const int64_t start = b * pixels * outputs + o;
        const WinogradOutput to{row,
                                m + i * kBlock,
                                m_stride,
                                out + start,
                                residual != nullptr ? residual + start : nullptr,
                                bias != nullptr ? bias + o : nullptr,
                                outputs,
                                tail.relu};
        kHalf ? winograd_output_bf16(to) : winograd_output_f32(to);
      });
    }
  };
  at::parallel_for(0, slots, 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      char* own = static_cast<char*>(scratch.get()) + slot * (v_bytes + m_bytes);
      for (int64_t part = slot * parts / slots; part < (slot + 1) * parts / slots; ++part)
        one_part(part, reinterpret_cast<T*>(own), reinterpret_cast<float*>(own + v_bytes));
    }
    blas::brgemm_release(kHalf);
  });
}

// Sets of points are saved as data, not as variables: nothing differentiates through them.
struct WinogradFunction : torch::autograd::Function<WinogradFunction> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const WinogradWeights& points,
                            const WinogradWeights& gradient) {
    context->save_for_backward({weight.requires_grad() ? x : at::Tensor(), weight});
    context->saved_data["learns"] = weight.requires_grad();
    context->saved_data["biased"] = bias.has_value() && bias->requires_grad();
    context->saved_data["points"] = gradient.points;
    context->saved_data["tile"] = points.tile();
    return winograd_conv(x, points, {bias.value_or(at::Tensor()), at::Tensor(), false});
  }

  static List backward(Context* context, List grads) {
    List out(5);
    const at::Tensor& grad = grads[0];
    if (!grad.defined()) return out;
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    if (context->needs_input_grad(0)) {
      WinogradWeights turned{context->saved_data["points"].toTensor()};
      if (!turned.points.defined())
        turned = winograd_gradient_weights(weight, grad.scalar_type(), context->saved_data["tile"].toInt());
      out[0] = winograd_conv(grad, turned, {});
    }
    if (context->saved_data["learns"].toBool()) out[1] = winograd_weight_gradient(x, grad).to(weight.scalar_type());
    if (context->saved_data["biased"].toBool()) out[2] = grad.sum({0, 2, 3}, /*keepdim=*/false, at::kFloat);
    return out;
  }
};

}  // namespace

// Measured on a CPU with AVX-512 and bfloat16 but no matrix units (AMX). Those multiply bfloat16 so much faster that the
// additions around them may cost more than they save: not measured, so left to oneDNN.
bool winograd_serves(const at::Tensor& weight, int64_t stride, int64_t padding, at::ScalarType dtype) {
  return weight.dim() == 4 && weight.is_cpu() && weight.size(2) == 3 && weight.size(3) == 3 && stride == 1 &&
         padding == 1 && weight.size(0) % kBlock == 0 && weight.size(1) % kBlock == 0 && weight.numel() > 0 &&
         can_multiply(dtype) && cpu_features().avx512 &&
         (dtype == at::kFloat || (cpu_features().avx512_bf16 && !cpu_features().amx_bf16));
}

// At two thirds of the multiplications; the rest pays for the additions.
bool winograd_pays(const at::Tensor& x, int64_t tile) {
  const Shape shape(x, tile);
  return shape.down * shape.across * (tile + 2) * (tile + 2) * 3 < shape.height * shape.width * 9 * 2;
}

at::Tensor winograd_conv(const at::Tensor& x, const WinogradWeights& weights, const WinogradTail& tail) {
  const auto out = [&](const at::Tensor& t) {
    return t.sizes() == at::IntArrayRef{x.size(0), weights.outputs(), x.size(2), x.size(3)};
  };
  LPLD_CHECK(can_multiply(x.scalar_type()), Internal,
             "winograd_conv: expected a CPU and a LibTorch that multiply blocks of ", x.scalar_type());
  LPLD_CHECK(x.dim() == 4 && x.is_cpu() && x.size(1) == weights.channels() &&
                 x.scalar_type() == weights.points.scalar_type() &&
                 (!tail.residual.defined() || (out(tail.residual) && tail.residual.scalar_type() == x.scalar_type())) &&
                 (!tail.bias.defined() ||
                  (tail.bias.sizes() == at::IntArrayRef{weights.outputs()} && tail.bias.scalar_type() == at::kFloat)),
             Internal, "winograd_conv: expected x [B, ", weights.channels(), ", H, W] like the weights, residual [B, ",
             weights.outputs(), ", H, W] and a float bias, received ", x.sizes(), " ", x.scalar_type());
  const auto last = at::MemoryFormat::ChannelsLast;
  at::Tensor y = at::empty({x.size(0), weights.outputs(), x.size(2), x.size(3)}, x.options(), last);
  if (y.numel() == 0) return y;
  WinogradTail packed = tail;
  if (tail.residual.defined()) packed.residual = tail.residual.contiguous(last);
  if (tail.bias.defined()) packed.bias = tail.bias.contiguous();
  x.scalar_type() == at::kFloat ? convolve<float>(x.contiguous(last), weights, packed, y)
                                : convolve<at::BFloat16>(x.contiguous(last), weights, packed, y);
  return y;
}

at::Tensor winograd_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const WinogradWeights& points, const WinogradWeights& gradient) {
  return WinogradFunction::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt, points, gradient);
}

}  // namespace lpld
