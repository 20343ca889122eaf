#pragma once
// pixel_adam one pixel at a time, in the order of torch.optim.Adam's float operations (lerp, addcmul, addcdiv, clamp).
// The step's numbers come from a table made once per segment. Source: methods 0.5 steps 4 and 5; tested against ATen's
// body and the float64 reference in test/kernels.test.ts.
#include <cmath>

#include "core/host_device.h"

namespace lpld {

struct AdamStep {
  double rate, root;  // lr / (1 - beta1^t), sqrt(1 - beta2^t)
};

struct AdamPixel {
  float x, m, v;
};

LPLD_HD float lerp_value(float from, float to, float weight) {
  return weight < 0.5f ? from + weight * (to - from) : to - (to - from) * (1.0f - weight);
}

LPLD_HD AdamPixel adam_pixel(AdamPixel p, float grad, AdamStep step, double beta1, double beta2, double eps, float low,
                             float high) {
  p.m = lerp_value(p.m, grad, float(1.0 - beta1));
  p.v = p.v * float(beta2) + float(1.0 - beta2) * grad * grad;
  p.x += float(-step.rate) * p.m / (sqrtf(p.v) / float(step.root) + float(eps));
  if (p.x < low) p.x = low;  // NaN stays NaN
  if (p.x > high) p.x = high;
  return p;
}

}  // namespace lpld
