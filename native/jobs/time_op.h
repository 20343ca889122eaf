#pragma once
// time_op: how long an op that has kernels or a CPU body of its own takes, forward and backward, by the device's own clock,
// with ours or with ATen's. For benches: through the door of single ops a GPU would wait for copies from the host.
#include <ATen/core/Tensor.h>

#include <string>

#include "core/job.h"

namespace lpld {

// Conv3: a frozen 3x3 convolution of as many channels as its input's; Conv3Weight: its gradient to the weight. Copy: x to
// another tensor, what memory can do.
enum class OpName { NormAct, BnMatch, CropFlipRoll, PixelAdam, Conv3, Conv3Weight, BatchNormAct, Copy };
OpName parse_op_name(const std::string& name);  // throws E_CONFIG naming the known ones

struct TimeOpSpec {
  OpName op;
  std::string device;
  at::ScalarType dtype;                    // float or bfloat16; bn_match, crop_flip_roll and pixel_adam: float
  int64_t groups, images, channels, size;  // x [G*n, C, P, P]
  bool kernels;                            // ours where they serve; false: the bodies used without them
  int64_t threads;                         // of the CPU
  bool graph;                              // replays of a captured run where that can be made, as synthesis does
  int64_t runs, rounds;                    // runs of a round, one after the other without a look at the device
};

struct OpTimes {
  at::Tensor seconds;  // double [rounds], of one run
  at::Tensor norms;    // double, Euclidean norms of what one run computes: equal problems have equal ones
  bool captured;
};

OpTimes time_op(const TimeOpSpec& spec, const JobContext& job);

}  // namespace lpld
