#include "ops/winograd_conv.h"

#include <ATen/native/CPUBlas.h>
#include <ATen/ops/convolution_backward.h>

#include "core/aten.h"
#include "core/device.h"
#include "ops/winograd_tiles.h"

namespace lpld {

namespace {

namespace blas = at::native::cpublas;

constexpr int64_t kBlock = kWinogradBlock;
constexpr int64_t kTiles = 64;  // most tiles of one: points and products stay near the second-level cache
// Elements between the points of one and of the next position, beyond the tiles: else they would share a set of the cache.
constexpr int64_t kSkew = 32;

// oneDNN's matrix product of small blocks, as LibTorch exports it: there is no other way to it through LibTorch, and whether it
// is there shows when it is called.
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
void convolve(const at::Tensor& x, const WinogradWeights& w, const WinogradTail& tail, at::Tensor& y) {
  constexpr bool kHalf = std::is_same_v<T, at::BFloat16>;
  const Shape shape(x, w.tile);
  const int64_t points = (w.tile + 2) * (w.tile + 2), blocks = w.outputs / kBlock;
  // Parts of equal size, as many to each thread.
  const int64_t workers = at::get_num_threads(), most = kTiles * workers;
  const int64_t rounds = (shape.tiles + most - 1) / most;
  const int64_t each = (shape.tiles + rounds * workers - 1) / (rounds * workers);
  const int64_t parts = (shape.tiles + each - 1) / each;
  const int64_t v_stride = each * w.channels + kSkew, m_stride = each * kBlock + kSkew;
  at::Tensor all_points = at::empty({workers, points * v_stride}, x.options());
  at::Tensor all_products = at::empty({workers, points * m_stride}, x.options().dtype(at::kFloat));
  const T *image = x.const_data_ptr<T>(), *weight = w.points.const_data_ptr<T>();
  const T* residual = tail.residual.defined() ? tail.residual.const_data_ptr<T>() : nullptr;
  const float* bias = tail.bias.defined() ? tail.bias.const_data_ptr<float>() : nullptr;
  T* out = y.mutable_data_ptr<T>();
  const int64_t pixels = shape.height * shape.width;
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    const int64_t worker = at::get_thread_num();
    T* v = all_points.mutable_data_ptr<T>() + worker * all_points.stride(0);
    float* m = all_products.mutable_data_ptr<float>() + worker * all_products.stride(0);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part * each, count = std::min(each, shape.tiles - first);
      each_row(shape, w.tile, first, count, [&](int64_t b, const TileRow& row, int64_t i) {
        const WinogradInput in{row, image + b * pixels * w.channels, v + i * w.channels, v_stride, w.channels};
        kHalf ? winograd_input_bf16(in) : winograd_input_f32(in);
      });
      for (int64_t block = 0; block < blocks; ++block) {
        for (int64_t p = 0; p < points; ++p)
          blas::brgemm(count, kBlock, w.channels, w.channels, kBlock, kBlock, false, v + p * v_stride,
                       weight + (p * blocks + block) * w.channels * kBlock, m + p * m_stride, kHalf);
        const int64_t o = block * kBlock;
        each_row(shape, w.tile, first, count, [&](int64_t b, const TileRow& row, int64_t i) {
          const int64_t start = b * pixels * w.outputs + o;
          const WinogradOutput to{row,
                                  m + i * kBlock,
                                  m_stride,
                                  kBlock,
                                  out + start,
                                  residual != nullptr ? residual + start : nullptr,
                                  bias != nullptr ? bias + o : nullptr,
                                  w.outputs,
                                  tail.relu};
          kHalf ? winograd_output_bf16(to) : winograd_output_f32(to);
        });
      }
    }
    blas::brgemm_release(kHalf);
  });
}

struct WinogradFunction : torch::autograd::Function<WinogradFunction> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const WinogradWeights& points,
                            const WinogradWeights& gradient) {
    // A frozen convolution keeps no input; what is of no graph is no variable.
    context->saved_data["learns"] = weight.requires_grad();
    if (weight.requires_grad()) context->save_for_backward({x, weight});
    context->saved_data["biased"] = bias.has_value() && bias->requires_grad();
    context->saved_data["points"] = gradient.points;
    context->saved_data["tile"] = points.tile;
    context->saved_data["outputs"] = points.channels;
    context->saved_data["channels"] = points.outputs;
    return winograd_conv(x, points, {bias.value_or(at::Tensor()), at::Tensor(), false});
  }

  static List backward(Context* context, List grads) {
    List out(5);
    if (!grads[0].defined()) return out;
    const auto integer = [&](const char* name) { return context->saved_data[name].toInt(); };
    WinogradWeights turned{context->saved_data["points"].toTensor(), integer("outputs"), integer("channels"),
                           integer("tile")};
    if (context->saved_data["learns"].toBool()) {
      const auto saved = context->get_saved_variables();
      const at::Tensor &x = saved[0], &weight = saved[1];
      if (context->needs_input_grad(0) && !turned.points.defined())
        turned = winograd_gradient_weights(weight, x.scalar_type(), turned.tile);
      const bool biased = context->saved_data["biased"].toBool();
      const auto [none, dweight, dbias] = at::convolution_backward(
          grads[0], x, weight.to(x.scalar_type()), at::OptionalIntArrayRef({weight.size(0)}), {1, 1}, {1, 1}, {1, 1},
          /*transposed=*/false, {0, 0}, /*groups=*/1, {false, true, biased});
      out[1] = dweight.to(weight.scalar_type());
      if (biased) out[2] = dbias.to(weight.scalar_type());
    }
    if (context->needs_input_grad(0)) out[0] = winograd_conv(grads[0], turned, {});
    return out;
  }
};

}  // namespace

// Matrix units (AMX) multiply bfloat16 so fast that the additions around them would be the larger part; without instructions
// for it, it is slow either way.
bool winograd_serves(const at::Tensor& weight, int64_t stride, int64_t padding, at::ScalarType dtype) {
  return weight.dim() == 4 && weight.is_cpu() && weight.size(2) == 3 && weight.size(3) == 3 && stride == 1 &&
         padding == 1 && weight.size(0) % kBlock == 0 && weight.size(1) % kBlock == 0 && weight.numel() > 0 &&
         can_multiply(dtype) && (dtype == at::kFloat || (cpu_features().avx512_bf16 && !cpu_features().amx_bf16));
}

bool winograd_pays(const at::Tensor& x, int64_t tile) {
  const Shape shape(x, tile);
  return shape.down * shape.across * (tile + 2) * (tile + 2) * 3 < shape.height * shape.width * 9 * 2;
}

at::Tensor winograd_conv(const at::Tensor& x, const WinogradWeights& weights, const WinogradTail& tail) {
  const auto out = [&](const at::Tensor& t) {
    return t.sizes() == at::IntArrayRef{x.size(0), weights.outputs, x.size(2), x.size(3)};
  };
  LPLD_CHECK(can_multiply(x.scalar_type()), Internal,
             "winograd_conv: expected a CPU and a LibTorch that multiply blocks of ", x.scalar_type());
  LPLD_CHECK(x.dim() == 4 && x.is_cpu() && x.size(1) == weights.channels &&
                 x.scalar_type() == weights.points.scalar_type() &&
                 (!tail.residual.defined() || (out(tail.residual) && tail.residual.scalar_type() == x.scalar_type())) &&
                 (!tail.bias.defined() ||
                  (tail.bias.sizes() == at::IntArrayRef{weights.outputs} && tail.bias.scalar_type() == at::kFloat)),
             Internal, "winograd_conv: expected x [B, ", weights.channels, ", H, W] like the weights, residual [B, ",
             weights.outputs, ", H, W] and a float bias, received ", x.sizes(), " ", x.scalar_type());
  const auto last = at::MemoryFormat::ChannelsLast;
  at::Tensor y = at::empty({x.size(0), weights.outputs, x.size(2), x.size(3)}, x.options(), last);
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
