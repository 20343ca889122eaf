// norm_act on channels-last rows: each thread owns four neighbouring channels (one, where a row is no multiple of four) and
// walks down the rows of its chunk, so that per-channel numbers stay in registers and a warp reads whole lines.
//   moments are deterministic: float over at most 32 rows of a thread, then double; the threads of a block add up in shared
//   memory, the blocks of a group in a second kernel, in a fixed order that the shape alone decides (not the dtype, not the
//   card); no atomics
//   earned: not measured on a device yet (no GPU at hand when it was written)
#include <initializer_list>

#include "kernels/launch.h"
#include "kernels/table.h"
#include "ops/norm_act_math.h"

namespace lpld {

namespace {

constexpr int kFlush = 32;        // rows a thread sums in float before it adds in double
constexpr int64_t kChunks = 512;  // at most, of a group
constexpr int64_t kRows = 8;      // at least, of a thread where there are so many
constexpr int kMaxLanes = 32;

// How [groups * rows, C] is cut: blocks of `lanes` x V channels and kThreads / lanes rows at a time, `chunk` rows in all.
struct Tiling {
  int64_t groups, rows, channels;
  int lanes, step;  // threads side by side, rows of a block at a time
  int64_t tiles, chunk, chunks;

  Tiling(int64_t groups, int64_t rows, int64_t channels, int width) : groups(groups), rows(rows), channels(channels) {
    const int64_t needed = (channels + width - 1) / width;
    lanes = 1;
    while (lanes < needed && lanes < kMaxLanes) lanes *= 2;
    step = kThreads / lanes;
    tiles = (needed + lanes - 1) / lanes;
    const int64_t least = step * kRows, even = (rows + kChunks - 1) / kChunks;
    chunk = least > even ? least : (even + step - 1) / step * step;
    chunks = (rows + chunk - 1) / chunk;
  }
  int64_t blocks() const { return groups * chunks * tiles; }
};

// What a thread of a block works on.
template <int V>
struct Place {
  int64_t group, chunk, channel, row, end;  // rows [row, end) in steps of Tiling::step, of all groups
  LPLD_HD Place(const Tiling& t, int64_t block, int thread) {
    const int64_t tile = block % t.tiles;
    chunk = block / t.tiles % t.chunks;
    group = block / (t.tiles * t.chunks);
    channel = (tile * t.lanes + thread % t.lanes) * V;
    const int64_t first = chunk * t.chunk, last = first + t.chunk < t.rows ? first + t.chunk : t.rows;
    row = group * t.rows + first + thread / t.lanes;
    end = group * t.rows + last;
    if (channel >= t.channels) row = end;
  }
};

template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T v[V];
};
template <class T, int V>
LPLD_HD Pack<T, V> read(const void* base, int64_t at) {
  return *reinterpret_cast<const Pack<T, V>*>(static_cast<const T*>(base) + at);
}
template <class T, int V>
LPLD_HD void write(void* base, int64_t at, const Pack<T, V>& pack) {
  *reinterpret_cast<Pack<T, V>*>(static_cast<T*>(base) + at) = pack;
}

template <int V>
struct BlockSums {
  double sums[2 * kThreads * V];  // of x - center, then of its square: [row of the block][channel of the tile]
};

template <class T, int V, bool kMoments>
struct NormForward {
  static constexpr int kPhases = kMoments ? 2 : 1;
  using Shared = BlockSums<kMoments ? V : 1>;
  NormForwardArgs a;
  Tiling t;

  LPLD_HD void first(int64_t block, int thread, Shared& shared) const {
    const Place<V> place(t, block, thread);
    float scale[V], shift[V], center[V], sum[V], square[V];
    double* totals = shared.sums + (kMoments ? thread * V : 0);  // this thread's own: no register is spent on them
    for (int k = 0; k < V; ++k) {
      const bool mine = place.channel + k < t.channels;
      scale[k] = mine ? a.scale[place.channel + k] : 0.0f;
      shift[k] = mine ? a.shift[place.channel + k] : 0.0f;
      center[k] = mine ? a.center[place.channel + k] : 0.0f;
      sum[k] = square[k] = 0.0f;
      if (kMoments) totals[k] = totals[kThreads * V + k] = 0.0;
    }
    const auto flush = [&] {
      for (int k = 0; k < V; ++k) {
        totals[k] += double(sum[k]);
        totals[kThreads * V + k] += double(square[k]);
        sum[k] = square[k] = 0.0f;
      }
    };
    int held = 0;
    for (int64_t row = place.row; row < place.end; row += t.step) {
      const int64_t at = row * t.channels + place.channel;
      const Pack<T, V> x = read<T, V>(a.x, at);
      Pack<T, V> residual{}, y;
      if (a.residual != nullptr) residual = read<T, V>(a.residual, at);
      for (int k = 0; k < V; ++k) {
        const float value = load_value(&x.v[k]);
        float out = norm_value(value, scale[k], shift[k]);
        if (a.residual != nullptr) out += load_value(&residual.v[k]);
        if (a.relu) out = relu_value(out);
        store_value(&y.v[k], out);
        if (kMoments) {
          const float centred = value - center[k];
          sum[k] += centred;
          square[k] += centred * centred;
        }
      }
      write<T, V>(a.y, at, y);
      if (kMoments && ++held == kFlush) {
        flush();
        held = 0;
      }
    }
    if (kMoments && held > 0) flush();
  }

  // Thread i adds channel i of the tile over the rows of the block.
  LPLD_HD void second(int64_t block, int thread, Shared& shared) const {
    const int width = t.lanes * V;
    const Place<V> place(t, block, 0);
    for (int i = thread; i < 2 * width; i += kThreads) {
      const int which = i / width, c = i % width;
      if (place.channel + c >= t.channels) continue;
      double total = 0;
      for (int row = 0; row < t.step; ++row) total += shared.sums[(which * t.step + row) * width + c];
      a.partial[((place.group * t.chunks + place.chunk) * 2 + which) * t.channels + place.channel + c] = total;
    }
  }
};

// Adds the chunks of a group; a block owns 8 channels.
struct NormMoments {
  static constexpr int kPhases = 2, kWidth = 8, kLines = kThreads / kWidth;
  struct Shared {
    double sums[2][kThreads];
  };
  NormForwardArgs a;
  int64_t chunks, tiles;

  LPLD_HD void first(int64_t block, int thread, Shared& shared) const {
    const int64_t group = block / tiles, c = block % tiles * kWidth + thread % kWidth;
    double sum = 0, square = 0;
    if (c < a.channels)
      for (int64_t chunk = thread / kWidth; chunk < chunks; chunk += kLines) {
        const double* row = a.partial + (group * chunks + chunk) * 2 * a.channels + c;
        sum += row[0];
        square += row[a.channels];
      }
    shared.sums[0][thread] = sum;
    shared.sums[1][thread] = square;
  }
  LPLD_HD void second(int64_t block, int thread, Shared& shared) const {
    const int64_t group = block / tiles, c = block % tiles * kWidth + thread;
    if (thread >= kWidth || c >= a.channels) return;
    double sum = 0, square = 0;
    for (int line = 0; line < kLines; ++line) {
      sum += shared.sums[0][line * kWidth + thread];
      square += shared.sums[1][line * kWidth + thread];
    }
    a.mean[group * a.channels + c] = moment_mean(sum, a.center[c], double(a.rows));
    a.variance[group * a.channels + c] = moment_variance(sum, square, double(a.rows));
  }
};

template <class T, int V>
struct NormBackward {
  static constexpr int kPhases = 1;
  using Shared = Nothing;
  NormBackwardArgs a;
  Tiling t;

  LPLD_HD void first(int64_t block, int thread, Shared&) const {
    const Place<V> place(t, block, thread);
    if (place.row >= place.end) return;
    float scale[V], center[V], offset[V], slope[V];
    for (int k = 0; k < V; ++k) {
      const int64_t c = place.channel + k, i = place.group * t.channels + c;
      scale[k] = a.scale[c];
      center[k] = a.center[c];
      slope[k] = moment_slope(a.dvariance[i], double(t.rows));
      offset[k] = moment_offset(a.dmean[i], a.dvariance[i], a.mean[i], center[k], double(t.rows));
    }
    for (int64_t row = place.row; row < place.end; row += t.step) {
      const int64_t at = row * t.channels + place.channel;
      const Pack<T, V> dy = read<T, V>(a.dy, at), x = read<T, V>(a.x, at);
      Pack<T, V> y{}, dx, dresidual;
      if (a.relu) y = read<T, V>(a.y, at);
      for (int k = 0; k < V; ++k) {
        float grad = load_value(&dy.v[k]);
        if (a.relu) grad = relu_gradient(load_value(&y.v[k]), grad);
        store_value(&dresidual.v[k], grad);
        store_value(&dx.v[k], norm_gradient(grad, scale[k], load_value(&x.v[k]), center[k], offset[k], slope[k]));
      }
      write<T, V>(a.dx, at, dx);
      if (a.dresidual != nullptr) write<T, V>(a.dresidual, at, dresidual);
    }
  }
};

// Four channels at a time where a row is a multiple of that; every pointer then has to begin on four.
int vector_width(int64_t channels) { return channels % 4 == 0 ? 4 : 1; }
bool aligned(std::initializer_list<const void*> pointers, bool half) {
  for (const void* p : pointers)
    if (reinterpret_cast<uintptr_t>(p) % (half ? 8 : 16) != 0) return false;
  return true;
}

template <class T, int V>
int forward_of(const NormForwardArgs& a, void* stream) {
  const Tiling tiling(a.groups, a.rows, a.channels, V);
  if (a.mean == nullptr) return launch_blocks(NormForward<T, V, false>{a, tiling}, tiling.blocks(), stream);
  if (const int failed = launch_blocks(NormForward<T, V, true>{a, tiling}, tiling.blocks(), stream)) return failed;
  const int64_t tiles = (a.channels + NormMoments::kWidth - 1) / NormMoments::kWidth;
  return launch_blocks(NormMoments{a, tiling.chunks, tiles}, a.groups * tiles, stream);
}

template <class T, int V>
int backward_of(const NormBackwardArgs& a, void* stream) {
  const Tiling tiling(a.groups, a.rows, a.channels, V);
  return launch_blocks(NormBackward<T, V>{a, tiling}, tiling.blocks(), stream);
}

constexpr int kMisaligned = 1;  // cudaErrorInvalidValue

}  // namespace

int64_t norm_chunks(int64_t rows, int64_t channels) { return Tiling(1, rows, channels, vector_width(channels)).chunks; }

int norm_forward(const NormForwardArgs& a, void* stream) {
  const bool wide = vector_width(a.channels) > 1;
  if (wide && !aligned({a.x, a.residual, a.y}, a.half)) return kMisaligned;
  if (a.half) return wide ? forward_of<uint16_t, 4>(a, stream) : forward_of<uint16_t, 1>(a, stream);
  return wide ? forward_of<float, 4>(a, stream) : forward_of<float, 1>(a, stream);
}

int norm_backward(const NormBackwardArgs& a, void* stream) {
  const bool wide = vector_width(a.channels) > 1;
  if (wide && !aligned({a.dy, a.x, a.y, a.dx, a.dresidual}, a.half)) return kMisaligned;
  if (a.half) return wide ? backward_of<uint16_t, 4>(a, stream) : backward_of<uint16_t, 1>(a, stream);
  return wide ? backward_of<float, 4>(a, stream) : backward_of<float, 1>(a, stream);
}

}  // namespace lpld
