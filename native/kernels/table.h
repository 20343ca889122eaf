#pragma once
// The table of CUDA kernels in liblpld_kernels.so: raw pointers, sizes and a stream, no torch type. One C symbol,
// lpld_kernels_v2(), returns it; a function returns 0 or a cudaError_t. A change of anything here is a new version.
// `step` is a counter in device memory: what an iteration reads from a table is chosen on the device, so that one captured
// iteration serves all. All tensors are dense; N = G*n images.
#include <cstdint>

namespace lpld {

// One rendered batch. All pointers are device memory; see native/data/recipes.h for the fields' meaning.
struct RenderArgs {
  const uint8_t* pixels;        // all stored images, packed
  const int64_t* image_offset;  // [N] first byte of each image
  const int32_t* image_size;    // [N, 2] height, width
  const int32_t* index;         // [B]
  const int32_t* crop;          // [B, 4]
  const uint8_t* flip;          // [B]
  const int32_t* cutout;        // [B, 4]
  const uint8_t* cutout_color;  // [B, 3]
  const uint8_t* mix_kind;      // [B]
  const int32_t* mix_index;     // [B]
  const int32_t* mix_box;       // [B, 4]
  uint8_t* plain;               // [B, P, P, C] before mixing
  uint8_t* mixed;               // [B, P, P, C]
  int64_t batch, size, channels;
};

// ops/norm_act.h. Rows are positions in channels-last order, [groups * rows, C]; float, or bfloat16 where half.
struct NormForwardArgs {
  const void *x, *residual;  // residual may be null
  void* y;
  const float *scale, *shift, *center;  // [C]
  double *mean, *variance;              // [G, C], null for no moments
  double* partial;                      // [G, norm_chunks(rows, C), 2, C] scratch where there are moments
  int64_t groups, rows, channels;
  bool half, relu;
};

struct NormBackwardArgs {
  const void *dy, *x, *y;  // y is read where relu
  void *dx, *dresidual;    // dresidual may be null
  const float *scale, *center;
  const double *mean, *dmean, *dvariance;  // [G, C]
  int64_t groups, rows, channels;
  bool half, relu;
};

// ops/bn_match.h: distance[g] = |mean - target_mean| + |variance - target_variance|.
struct MatchArgs {
  const double *mean, *variance;               // [G, C]
  const float *target_mean, *target_variance;  // [G, C]
  double *distance, *norms;                    // [G], [G, 2] of mean and variance
  const double* ddistance;                     // [G], backward only
  double *dmean, *dvariance;                   // [G, C], backward only
  int64_t groups, channels;
};

// ops/crop_flip_roll.h. Forward: x [N, C, P, P] to y [N, P, P, C] in memory; backward: y's gradient to x's.
struct CropArgs {
  const float* from;
  float* to;
  const int32_t* crop;                     // [S, G, 4]
  const uint8_t* flip;                     // [S, G]
  const int32_t* roll;                     // [S, G, 2]
  const int64_t* step;                     // [1]
  int64_t groups, images, channels, size;  // images of a group
};

// ops/pixel_adam.h, with the rate and bias correction of row `step` of a table.
struct PixelAdamArgs {
  float *x, *m, *v;         // [N, C, P, P]
  const float* grad;        // the same layout
  const double* table;      // [S, 2] AdamStep
  const int64_t* step;      // [1]
  const float *low, *high;  // [C]
  int64_t count, channels, plane;
  double beta1, beta2, eps;
};

// Losses of the iteration into row `step`, and then the next iteration's number into it.
struct RecordArgs {
  const float* ce;            // [G]
  const double *bn, *layers;  // [G], [L]
  double *loss_ce, *loss_bn;  // [S, G]
  double* loss_layers;        // [S, L]
  int64_t* step;              // [1]
  int64_t groups, layers_count;
};

struct KernelTable {
  bool host;  // works on host memory: the emulation of the tests
  int (*render)(const RenderArgs& args, void* stream);
  int (*norm_forward)(const NormForwardArgs& args, void* stream);
  int (*norm_backward)(const NormBackwardArgs& args, void* stream);
  int (*match_forward)(const MatchArgs& args, void* stream);
  int (*match_backward)(const MatchArgs& args, void* stream);
  int (*crop_forward)(const CropArgs& args, void* stream);
  int (*crop_backward)(const CropArgs& args, void* stream);
  int (*pixel_adam)(const PixelAdamArgs& args, void* stream);
  int (*record)(const RecordArgs& args, void* stream);
  int64_t (*norm_chunks)(int64_t rows, int64_t channels);
  int (*device_memory)(int device, int64_t* free, int64_t* total);  // bytes
};

int render(const RenderArgs& args, void* stream);
int norm_forward(const NormForwardArgs& args, void* stream);
int norm_backward(const NormBackwardArgs& args, void* stream);
int match_forward(const MatchArgs& args, void* stream);
int match_backward(const MatchArgs& args, void* stream);
int crop_forward(const CropArgs& args, void* stream);
int crop_backward(const CropArgs& args, void* stream);
int pixel_adam(const PixelAdamArgs& args, void* stream);
int record(const RecordArgs& args, void* stream);
int64_t norm_chunks(int64_t rows, int64_t channels);
int device_memory(int device, int64_t* free, int64_t* total);

}  // namespace lpld

extern "C" {
const lpld::KernelTable* lpld_kernels_v2();
}
