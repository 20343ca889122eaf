// The small kernels of a synthesis iteration: the augmentation both ways as gathers (no atomics: the gradient of a pixel is
// summed by the thread that owns it, in the order of the outputs that read it), the distance to the targets, Adam with the
// clamp, and the record of the losses. Each reads its draw or rate at the device counter `step`.
//   earned: not measured on a device yet (no GPU at hand when it was written)
#include "kernels/launch.h"
#include "kernels/table.h"
#include "ops/axis_taps.h"
#include "ops/pixel_adam_math.h"

namespace lpld {

namespace {

struct View {
  Axis<float> rows, columns;
};

// The view of group `group` at the iteration that the counter names.
LPLD_HD View view_of(const CropArgs& a, int64_t group) {
  const int64_t draw = *a.step * a.groups + group;
  const int32_t *box = a.crop + 4 * draw, *by = a.roll + 2 * draw;
  return {{a.size, box[0], box[2], false, by[0]}, {a.size, box[1], box[3], a.flip[draw] != 0, by[1]}};
}

// One value of y, channels fastest.
struct CropForward {
  CropArgs a;
  LPLD_HD void operator()(int64_t i) const {
    const int64_t c = i % a.channels, column = i / a.channels % a.size, row = i / (a.channels * a.size) % a.size;
    const int64_t image = i / (a.channels * a.size * a.size);
    const View view = view_of(a, image / a.images);
    const Tap<float> down = axis_tap(view.rows, row), across = axis_tap(view.columns, column);
    const float* plane = a.from + (image * a.channels + c) * a.size * a.size;
    const float* top = plane + (view.rows.start + down.low) * a.size + view.columns.start;
    const float* bottom = plane + (view.rows.start + down.high) * a.size + view.columns.start;
    const float upper = (1.0f - across.weight) * top[across.low] + across.weight * top[across.high];
    const float lower = (1.0f - across.weight) * bottom[across.low] + across.weight * bottom[across.high];
    a.to[i] = (1.0f - down.weight) * upper + down.weight * lower;
  }
};

// The gradient of one value of x, columns fastest.
struct CropBackward {
  CropArgs a;
  LPLD_HD void operator()(int64_t i) const {
    const int64_t plane = a.size * a.size, column = i % a.size, row = i / a.size % a.size;
    const int64_t c = i / plane % a.channels, image = i / (plane * a.channels);
    const View view = view_of(a, image / a.images);
    const int64_t y = row - view.rows.start, x = column - view.columns.start;
    const Readers down = axis_readers(view.rows, y), across = axis_readers(view.columns, x);
    const float* grad = a.from + image * plane * a.channels + c;
    float sum = 0.0f;
    for (int64_t r = down.first; r < down.last; ++r) {
      const float* line = grad + axis_position(view.rows, r) * a.size * a.channels;
      float along = 0.0f;
      for (int64_t s = across.first; s < across.last; ++s)
        along += tap_weight(resized_tap(view.columns, s), x) * line[axis_position(view.columns, s) * a.channels];
      sum += tap_weight(resized_tap(view.rows, r), y) * along;
    }
    a.to[i] = sum;
  }
};

struct PixelAdam {
  PixelAdamArgs a;
  LPLD_HD void operator()(int64_t i) const {
    const double* row = a.table + 2 * *a.step;
    const int64_t c = i / a.plane % a.channels;
    const AdamPixel p =
        adam_pixel({a.x[i], a.m[i], a.v[i]}, a.grad[i], {row[0], row[1]}, a.beta1, a.beta2, a.eps, a.low[c], a.high[c]);
    a.x[i] = p.x;
    a.m[i] = p.m;
    a.v[i] = p.v;
  }
};

// One block a group; sums of squares in double, added in a fixed order.
struct MatchForward {
  static constexpr int kPhases = 3, kLanes = 16;
  struct Shared {
    double mean[kThreads], variance[kThreads];
  };
  MatchArgs a;
  LPLD_HD void first(int64_t group, int thread, Shared& shared) const {
    double mean = 0, variance = 0;
    for (int64_t c = thread; c < a.channels; c += kThreads) {
      const int64_t i = group * a.channels + c;
      const double off_mean = a.mean[i] - a.target_mean[i], off_variance = a.variance[i] - a.target_variance[i];
      mean += off_mean * off_mean;
      variance += off_variance * off_variance;
    }
    shared.mean[thread] = mean;
    shared.variance[thread] = variance;
  }
  LPLD_HD void second(int64_t, int thread, Shared& shared) const {  // 16 lanes of each sum, in place
    if (thread >= 2 * kLanes) return;
    double* sums = thread < kLanes ? shared.mean : shared.variance;
    for (int i = thread % kLanes + kLanes; i < kThreads; i += kLanes) sums[thread % kLanes] += sums[i];
  }
  LPLD_HD void third(int64_t group, int thread, Shared& shared) const {
    if (thread != 0) return;
    double mean = 0, variance = 0;
    for (int i = 0; i < kLanes; ++i) {
      mean += shared.mean[i];
      variance += shared.variance[i];
    }
    a.norms[2 * group] = sqrt(mean);
    a.norms[2 * group + 1] = sqrt(variance);
    a.distance[group] = sqrt(variance) + sqrt(mean);
  }
};

// A zero norm has gradient zero.
struct MatchBackward {
  MatchArgs a;
  LPLD_HD void operator()(int64_t i) const {
    const int64_t group = i / a.channels;
    const double grad = a.ddistance[group], mean = a.norms[2 * group], variance = a.norms[2 * group + 1];
    a.dmean[i] = mean == 0.0 ? 0.0 : grad * (a.mean[i] - a.target_mean[i]) / mean;
    a.dvariance[i] = variance == 0.0 ? 0.0 : grad * (a.variance[i] - a.target_variance[i]) / variance;
  }
};

// One block, since the counter moves only after every group has read it.
struct Record {
  static constexpr int kPhases = 2;
  using Shared = Nothing;
  RecordArgs a;
  LPLD_HD void first(int64_t, int thread, Shared&) const {
    for (int64_t g = thread; g < a.groups; g += kThreads) {
      a.loss_ce[*a.step * a.groups + g] = double(a.ce[g]);
      a.loss_bn[*a.step * a.groups + g] = a.bn[g];
    }
    for (int64_t l = thread; l < a.layers_count; l += kThreads)
      a.loss_layers[*a.step * a.layers_count + l] = a.layers[l];
  }
  LPLD_HD void second(int64_t, int thread, Shared&) const {
    if (thread == 0) ++*a.step;
  }
};

int64_t values(const CropArgs& a) { return a.groups * a.images * a.channels * a.size * a.size; }

}  // namespace

int crop_forward(const CropArgs& args, void* stream) { return launch_each(CropForward{args}, values(args), stream); }
int crop_backward(const CropArgs& args, void* stream) { return launch_each(CropBackward{args}, values(args), stream); }
int match_forward(const MatchArgs& args, void* stream) {
  return launch_blocks(MatchForward{args}, args.groups, stream);
}
int match_backward(const MatchArgs& args, void* stream) {
  return launch_each(MatchBackward{args}, args.groups * args.channels, stream);
}
int pixel_adam(const PixelAdamArgs& args, void* stream) { return launch_each(PixelAdam{args}, args.count, stream); }
int record(const RecordArgs& args, void* stream) { return launch_blocks(Record{args}, 1, stream); }

}  // namespace lpld
