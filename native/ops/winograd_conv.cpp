#include "ops/winograd_conv.h"

#include <ATen/native/CPUBlas.h>

#include "core/aten.h"
#include "core/device.h"
#include "ops/winograd_tiles.h"

namespace lpld {

namespace {

namespace blas = at::native::cpublas;

constexpr int64_t kBlock = 64;  // outputs of one matrix product
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

// Matrix units (AMX) multiply bfloat16 so fast that the additions around them would be the larger part.
bool can_multiply(at::ScalarType dtype) {
  if (!at::globalContext().userEnabledMkldnn()) return false;
  static const bool single = multiplies<float>();
  static const bool half = cpu_features().avx512_bf16 && !cpu_features().amx_bf16 && multiplies<at::BFloat16>();
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

// G of F(2, 3) and F(4, 3).
constexpr double kTaps2[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
constexpr double kTaps4[6][3] = {{1. / 4, 0, 0},
                                 {-1. / 6, -1. / 6, -1. / 6},
                                 {-1. / 6, 1. / 6, -1. / 6},
                                 {1. / 24, 1. / 12, 1. / 6},
                                 {1. / 24, -1. / 12, 1. / 6},
                                 {0, 0, 1}};

// G g G^T of one kernel g, to points[p * stride].
template <class T, int kSide>
void transform_kernel(const double (&taps)[kSide][3], const float* g, at::IntArrayRef strides, T* points,
                      int64_t stride) {
  double half[kSide][3];
  for (int i = 0; i < kSide; ++i)
    for (int64_t x = 0; x < 3; ++x) {
      const float* column = g + x * strides[3];
      half[i][x] = taps[i][0] * column[0] + taps[i][1] * column[strides[2]] + taps[i][2] * column[2 * strides[2]];
    }
  for (int i = 0; i < kSide; ++i)
    for (int j = 0; j < kSide; ++j)
      points[(i * kSide + j) * stride] =
          T(float(half[i][0] * taps[j][0] + half[i][1] * taps[j][1] + half[i][2] * taps[j][2]));
}

template <class T>
void transform(const at::Tensor& weight, int64_t tile, at::Tensor& points) {
  const int64_t outputs = weight.size(0), channels = weight.size(1), pair = std::is_same_v<T, at::BFloat16> ? 2 : 1;
  const at::IntArrayRef strides = weight.strides();
  const float* from = weight.const_data_ptr<float>();
  T* to = points.mutable_data_ptr<T>();
  constexpr int64_t kChannels = 32;  // at a time: what is written stays in the cache until its lines are full
  at::parallel_for(0, channels / kChannels * (outputs / kBlock), 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part / (outputs / kBlock) * kChannels, block = part % (outputs / kBlock);
      for (int64_t o = 0; o < kBlock; ++o)
        for (int64_t c = first; c < first + kChannels; ++c) {
          const float* g = from + (block * kBlock + o) * strides[0] + c * strides[1];
          T* at = to + block * channels * kBlock + c / pair * pair * kBlock + o * pair + c % pair;
          if (tile == 2)
            transform_kernel(kTaps2, g, strides, at, outputs * channels);
          else
            transform_kernel(kTaps4, g, strides, at, outputs * channels);
        }
    }
  });
}

WinogradWeights transformed(const at::Tensor& weight, at::ScalarType dtype, int64_t tile) {
  LPLD_CHECK(winograd_serves(weight, 1, 1, dtype) && weight.scalar_type() == at::kFloat &&
                 (tile == 2 || (tile == 4 && dtype == at::kFloat)),
             Internal,
             "winograd_weights: expected float [O, C, 3, 3] with multiples of 64, and tile 2, or 4 in float, received ",
             weight.sizes(), ", ", dtype, ", tile ", tile);
  const int64_t outputs = weight.size(0), channels = weight.size(1), side = tile + 2;
  at::Tensor points = at::empty({side * side, outputs / kBlock, channels, kBlock}, at::TensorOptions().dtype(dtype));
  dtype == at::kFloat ? transform<float>(weight, tile, points) : transform<at::BFloat16>(weight, tile, points);
  return {points, outputs, channels, tile};
}

struct WinogradFunction : torch::autograd::Function<WinogradFunction> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, const at::Tensor& x, const WinogradWeights& weights,
                            const WinogradWeights& gradient, const std::optional<at::Tensor>& bias) {
    context->saved_data["points"] = gradient.points;  // of no graph: no variable
    context->saved_data["tile"] = gradient.tile;
    context->saved_data["outputs"] = gradient.outputs;
    context->saved_data["channels"] = gradient.channels;
    return winograd_conv(x, weights, {bias.value_or(at::Tensor()), at::Tensor(), false});
  }

  static List backward(Context* context, List grads) {
    if (!grads[0].defined()) return {{}, {}, {}, {}};
    const auto integer = [&](const char* name) { return context->saved_data[name].toInt(); };
    const WinogradWeights weights{context->saved_data["points"].toTensor(), integer("outputs"), integer("channels"),
                                  integer("tile")};
    return {winograd_conv(grads[0], weights, {}), {}, {}, {}};
  }
};

}  // namespace

WinogradWeights winograd_weights(const at::Tensor& weight, at::ScalarType dtype, int64_t tile) {
  return transformed(weight, dtype, tile);
}

WinogradWeights winograd_gradient_weights(const at::Tensor& weight, at::ScalarType dtype, int64_t tile) {
  return transformed(weight.flip({2, 3}).transpose(0, 1), dtype, tile);
}

bool winograd_serves(const at::Tensor& weight, int64_t stride, int64_t padding, at::ScalarType dtype) {
  return weight.dim() == 4 && weight.is_cpu() && weight.size(2) == 3 && weight.size(3) == 3 && stride == 1 &&
         padding == 1 && weight.size(0) % kBlock == 0 && weight.size(1) % kBlock == 0 && weight.numel() > 0 &&
         can_multiply(dtype);
}

bool winograd_pays(const at::Tensor& x, int64_t tile) {
  const Shape one(x.narrow(0, 0, 1), tile);
  return one.tiles * (tile + 2) * (tile + 2) * 3 < one.height * one.width * 9 * 2;
}

at::Tensor winograd_conv(const at::Tensor& x, const WinogradWeights& weights, const WinogradTail& tail) {
  const auto out = [&](const at::Tensor& t) {
    return t.sizes() == at::IntArrayRef{x.size(0), weights.outputs, x.size(2), x.size(3)};
  };
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

at::Tensor winograd_conv(const at::Tensor& x, const WinogradWeights& weights, const WinogradWeights& gradient,
                         const at::Tensor& bias) {
  return WinogradFunction::apply(x, weights, gradient, bias.defined() ? std::optional(bias) : std::nullopt);
}

}  // namespace lpld
