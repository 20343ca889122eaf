#include "ops/winograd_weights.h"

#include "core/aten.h"
#include "core/feature_levels.h"
#include "ops/winograd_lanes.h"

namespace lpld {

namespace {

// Where the taps of a block of outputs and some channels lie, and where their points go.
struct Kernels {
  const float* taps;                     // of the block's first output and the first channel
  int64_t output, channel, row, column;  // strides of the taps
  void* points;
  int64_t stride;  // from point to point
  int64_t channels;
};

// G in one dimension.
LPLD_INLINE void to_points(const Lanes (&g)[3], Lanes (&u)[4]) {
  const Lanes half = 0.5f * (g[0] + g[2]);
  u[0] = g[0];
  u[1] = half + 0.5f * g[1];
  u[2] = half - 0.5f * g[1];
  u[3] = g[2];
}
LPLD_INLINE void to_points(const Lanes (&g)[3], Lanes (&u)[6]) {
  const Lanes near = (g[0] + g[2]) * (-1.0f / 6), far = (g[0] + 4.0f * g[2]) * (1.0f / 24);
  u[0] = 0.25f * g[0];
  u[1] = near - g[1] * (1.0f / 6);
  u[2] = near + g[1] * (1.0f / 6);
  u[3] = far + g[1] * (1.0f / 12);
  u[4] = far - g[1] * (1.0f / 12);
  u[5] = g[2];
}

// Sixteen outputs of one channel: u = G g G^T.
template <int kSide>
LPLD_INLINE void transform(const Kernels& k, const float* taps, Lanes (&u)[kSide][kSide]) {
  Lanes columns[3][kSide];
  for (int x = 0; x < 3; ++x) {
    Lanes g[3];
    for (int y = 0; y < 3; ++y) {
      const float* tap = taps + y * k.row + x * k.column;
      if (k.output == 1)
        load(tap, g[y]);
      else
        for (int64_t o = 0; o < kWinogradLanes; ++o) g[y][o] = tap[o * k.output];
    }
    to_points(g, columns[x]);
  }
  for (int i = 0; i < kSide; ++i) {
    const Lanes row[3] = {columns[0][i], columns[1][i], columns[2][i]};
    to_points(row, u[i]);
  }
}

template <int kSide>
LPLD_INLINE void transform_f32(const Kernels& k) {
  for (int64_t c = 0; c < k.channels; ++c)
    for (int64_t o = 0; o < kWinogradBlock; o += kWinogradLanes) {
      Lanes u[kSide][kSide];
      transform(k, k.taps + c * k.channel + o * k.output, u);
      float* to = static_cast<float*>(k.points) + c * kWinogradBlock + o;
      for (int i = 0; i < kSide; ++i)
        for (int j = 0; j < kSide; ++j) store(to + (i * kSide + j) * k.stride, u[i][j]);
    }
}

LPLD_WIDE void transform_f32_2(const Kernels& k) { transform_f32<4>(k); }
LPLD_WIDE void transform_f32_4(const Kernels& k) { transform_f32<6>(k); }

// Two channels at a time, side by side in each word.
LPLD_WIDE void transform_bf16_2(const Kernels& k) {
  for (int64_t c = 0; c < k.channels; c += 2)
    for (int64_t o = 0; o < kWinogradBlock; o += kWinogradLanes) {
      Lanes even[4][4], odd[4][4];
      transform(k, k.taps + c * k.channel + o * k.output, even);
      transform(k, k.taps + (c + 1) * k.channel + o * k.output, odd);
      uint16_t* to = static_cast<uint16_t*>(k.points) + c * kWinogradBlock + 2 * o;
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
          Words low, high;
          round_to_half(even[i][j], low);
          round_to_half(odd[i][j], high);
          low |= high << 16;
          std::memcpy(to + (i * 4 + j) * k.stride, &low, sizeof(low));
        }
    }
}

}  // namespace

WinogradWeights winograd_weights(const at::Tensor& weight, at::ScalarType dtype, int64_t tile) {
  LPLD_CHECK(weight.dim() == 4 && weight.is_cpu() && weight.scalar_type() == at::kFloat && weight.numel() > 0 &&
                 weight.size(0) % kWinogradBlock == 0 && weight.size(1) % kWinogradBlock == 0 && weight.size(2) == 3 &&
                 weight.size(3) == 3 && ((tile == 2 && dtype == at::kBFloat16) || dtype == at::kFloat) &&
                 (tile == 2 || tile == 4),
             Internal,
             "winograd_weights: expected float [O, C, 3, 3] with multiples of 64, and tile 2, or 4 in float, received ",
             weight.sizes(), ", ", dtype, ", tile ", tile);
  const int64_t outputs = weight.size(0), channels = weight.size(1), side = tile + 2;
  const int64_t blocks = outputs / kWinogradBlock;
  at::Tensor points = at::empty({side * side, blocks, channels, kWinogradBlock}, at::TensorOptions().dtype(dtype));
  const float* taps = weight.const_data_ptr<float>();
  char* to = static_cast<char*>(points.mutable_data_ptr());
  constexpr int64_t kChannels = 16;  // at a time: one cache line of taps in either order
  at::parallel_for(0, blocks * (channels / kChannels), 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t block = part % blocks, first = part / blocks * kChannels;
      const Kernels kernels{
          taps + block * kWinogradBlock * weight.stride(0) + first * weight.stride(1),
          weight.stride(0),
          weight.stride(1),
          weight.stride(2),
          weight.stride(3),
          to + (block * channels + first) * kWinogradBlock * int64_t(points.element_size()),
          outputs * channels,
          kChannels,
      };
      if (dtype == at::kBFloat16)
        transform_bf16_2(kernels);
      else
        tile == 2 ? transform_f32_2(kernels) : transform_f32_4(kernels);
    }
  });
  return {points};
}

WinogradWeights winograd_gradient_weights(const at::Tensor& weight, at::ScalarType dtype, int64_t tile) {
  return winograd_weights(weight.flip({2, 3}).transpose(0, 1), dtype, tile);
}

}  // namespace lpld
