#include "ops/winograd_weight_gradient.h"

#include "core/aten.h"
#include "core/device.h"
#include "ops/winograd_lanes.h"
#include "ops/winograd_lines.h"

namespace lpld {

namespace {

constexpr int64_t kTiles = 128;             // of a chunk: a group of lines is 8 KiB
constexpr int64_t kMostBytes = 64 << 20;    // of the points of all slices
constexpr int64_t kPoints = 16, kSide = 4;  // points of a tile

// Who does what: outputs are dealt in equal parts, and where there are more threads than parts each part's rows of tiles are
// dealt in slices, whose sums are added at the end.
struct Deal {
  int64_t parts, slices;
  Deal(int64_t channels, int64_t outputs, int64_t rows, int64_t threads) {
    const int64_t blocks = outputs / kWinogradBlock;
    for (parts = std::min(threads, blocks); blocks % parts != 0;) --parts;
    const int64_t fit = kMostBytes / (kPoints * channels * outputs * int64_t(sizeof(float)));
    slices = std::max<int64_t>(1, std::min({(threads + parts - 1) / parts, rows, fit}));
  }
};

template <class T>
void sum_points(const at::Tensor& x, const at::Tensor& grad, const Deal& deal, float* points) {
  constexpr bool kHalf = std::is_same_v<T, at::BFloat16>;
  const int64_t channels = x.size(1), outputs = grad.size(1), height = x.size(2), width = x.size(3);
  const int64_t across = (width + 1) / 2, tiles = across + across % 2, down = (height + 1) / 2;
  const int64_t rows = x.size(0) * down, each = std::max<int64_t>(1, kTiles / tiles), own = outputs / deal.parts;
  const int64_t group = each * tiles * kWinogradLanes;  // numbers of a chunk's lines of 16 channels
  const int64_t x_point = channels / kWinogradLanes * group, grad_point = own / kWinogradLanes * group;
  const int64_t items = deal.parts * deal.slices, bytes = kSide * (x_point + grad_point) * int64_t(sizeof(T));
  const c10::DataPtr scratch = c10::GetCPUAllocator()->allocate(size_t(items * bytes));
  const T *pixels = x.const_data_ptr<T>(), *gradient = grad.const_data_ptr<T>();

  // Row k of the points of some rows of tiles, of x or of the gradient.
  const auto lines_of = [&](WinogradLines in, int64_t first, int64_t count) {
    const T* images = static_cast<const T*>(in.image);
    T* lines = static_cast<T*>(in.lines);
    for (int64_t i = 0; i < count; ++i) {
      in.image = images + (first + i) / down * height * width * in.channels;
      in.y = (first + i) % down * 2;
      in.lines = lines + i * tiles * kWinogradLanes;
      kHalf ? winograd_lines_bf16(in) : winograd_lines_f32(in);
    }
  };
  at::parallel_for(0, items, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t part = item % deal.parts, slice = item / deal.parts, o = part * own;
      T* const of_x = reinterpret_cast<T*>(static_cast<char*>(scratch.get()) + item * bytes);
      T* const of_grad = of_x + kSide * x_point;
      const int64_t start = slice * rows / deal.slices, stop = (slice + 1) * rows / deal.slices;
      for (int64_t first = start; first < stop; first += each) {
        const int64_t count = std::min(each, stop - first);
        for (int64_t k = 0; k < kSide; ++k) {
          lines_of({pixels, height, width, channels, 0, k, false, of_x, x_point, channels / kWinogradLanes, group},
                   first, count);
          lines_of({gradient + o, height, width, outputs, 0, k, true, of_grad, grad_point, own / kWinogradLanes, group},
                   first, count);
          for (int64_t j = 0; j < kSide; ++j) {
            float* to = points + ((slice * kPoints + k * kSide + j) * outputs + o) * channels;
            for (int64_t c = 0; c < channels; c += 2 * kWinogradLanes)
              for (int64_t i = 0; i < own; i += kWinogradLanes) {
                const WinogradSums sums{of_grad + j * grad_point + i / kWinogradLanes * group,
                                        of_x + j * x_point + c / kWinogradLanes * group,
                                        group,
                                        count * tiles,
                                        to + i * channels + c,
                                        channels,
                                        first == start};
                kHalf ? winograd_sums_bf16(sums) : winograd_sums_f32(sums);
              }
          }
        }
      }
    }
  });
}

}  // namespace

at::Tensor winograd_weight_gradient(const at::Tensor& x, const at::Tensor& grad) {
  LPLD_CHECK(x.dim() == 4 && grad.dim() == 4 && x.is_cpu() && grad.is_cpu() && x.size(0) == grad.size(0) &&
                 x.size(2) == grad.size(2) && x.size(3) == grad.size(3) && x.scalar_type() == grad.scalar_type() &&
                 (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) && x.size(1) > 0 &&
                 grad.size(1) > 0 && x.size(1) % kWinogradBlock == 0 && grad.size(1) % kWinogradBlock == 0,
             Internal,
             "winograd_weight_gradient: expected x [B, C, H, W] and grad [B, O, H, W], multiples of 64, received ",
             x.sizes(), " ", x.scalar_type(), " and ", grad.sizes(), " ", grad.scalar_type());
  const CpuFeatures cpu = cpu_features();
  LPLD_CHECK(cpu.avx512 && (x.scalar_type() == at::kFloat || cpu.avx512_bf16), Internal,
             "winograd_weight_gradient: expected a CPU with AVX-512 for ", x.scalar_type());
  const auto last = at::MemoryFormat::ChannelsLast;
  const int64_t channels = x.size(1), outputs = grad.size(1);
  at::Tensor weight = at::empty({outputs, channels, 3, 3}, at::TensorOptions().dtype(at::kFloat), last);
  if (x.numel() == 0) return weight.zero_();
  const Deal deal(channels, outputs, x.size(0) * ((x.size(2) + 1) / 2), at::get_num_threads());
  const int64_t slice = kPoints * outputs * channels;
  // Never a tensor: a deterministic job would fill it first.
  const c10::DataPtr memory = c10::GetCPUAllocator()->allocate(size_t(deal.slices * slice) * sizeof(float));
  float* points = static_cast<float*>(memory.get());
  const at::Tensor pixels = x.contiguous(last), gradient = grad.contiguous(last);
  x.scalar_type() == at::kFloat ? sum_points<float>(pixels, gradient, deal, points)
                                : sum_points<at::BFloat16>(pixels, gradient, deal, points);
  float* taps = weight.mutable_data_ptr<float>();
  at::parallel_for(0, outputs, 16, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      winograd_taps({points + o * channels, deal.slices, slice, outputs * channels, channels, taps + o * 9 * channels});
  });
  return weight;
}

}  // namespace lpld
