#pragma once
// synthesize: one segment of the BN-matching loop of SRe2L, CDA and LPLD. What differs between the systems (which
// classes share a batch, which statistics are matched, how crops shrink) is decided in src/methods and arrives as data.
#include "core/device.h"
#include "core/job.h"
#include "models/model.h"
#include "ops/pixel_adam.h"

namespace lpld {

struct SynthesizeSpec {
  Execution execution;
  int64_t groups, images_per_group;
  at::Tensor labels;            // int32 [G*n]
  at::Tensor x, m, v;           // float [G*n, C, P, P]
  int64_t step;                 // iterations already done
  at::Tensor crop, flip, roll;  // int32 [S, G, 4], uint8 [S, G], int32 [S, G, 2]
  at::Tensor lr;                // double [S]
  double beta1, beta2, eps;
  double r_bn, first_bn_multiplier, tv_l2, l2_scale;
  at::Tensor target_mean, target_var;  // float [G, sum of C_l]
  at::Tensor clamp_low, clamp_high;    // float [C]
  bool graph;                          // replay one captured iteration where the device can (CUDA, liblpld_graph.so)
};

struct SynthesizeResult {
  at::Tensor x, m, v;
  at::Tensor loss_ce, loss_bn;  // double [S, G]; loss_bn is R before r_bn
  at::Tensor loss_layers;       // double [S, L]; mean over groups of r_l, before the first layer's multiplier
  std::string graph_refused;    // why CUDA made no graph where one was wanted, else empty
};

SynthesizeResult synthesize(Model& teacher, const SynthesizeSpec& spec, const JobContext& job);

}  // namespace lpld
