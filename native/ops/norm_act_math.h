#pragma once
// norm_act one value at a time: what norm_act_rows.cpp vectorises on the CPU and kernels/norm_act.cu runs on the GPU.
// A bfloat16 is its 16 bits. Source: methods 0.4; tested through the CPU bodies in test/ops/norm-act.test.ts.
#include <cstdint>
#include <cstring>

#include "core/host_device.h"

namespace lpld {

LPLD_HD float load_value(const float* p) { return *p; }
LPLD_HD float load_value(const uint16_t* p) {
  const uint32_t bits = uint32_t(*p) << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
LPLD_HD void store_value(float* p, float value) { *p = value; }
// Round to nearest even; a NaN keeps its sign and becomes quiet.
LPLD_HD void store_value(uint16_t* p, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  *p = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : rounded);
}

LPLD_HD float norm_value(float x, float scale, float shift) { return x * scale + shift; }
LPLD_HD float relu_value(float y) { return y < 0.0f ? 0.0f : y; }  // NaN stays NaN
LPLD_HD float relu_gradient(float y, float grad) { return y > 0.0f ? grad : 0.0f; }

// The gradient of a group's moments to its x is offset + slope * (x - center), M elements in the group:
// (dmean + 2 dvariance (x - mean)) / M.
LPLD_HD float moment_slope(double dvariance, double elements) { return float(dvariance * (2.0 / elements)); }
LPLD_HD float moment_offset(double dmean, double dvariance, double mean, float center, double elements) {
  return float(dmean / elements - dvariance * (2.0 / elements) * (mean - double(center)));
}
LPLD_HD float norm_gradient(float grad, float scale, float x, float center, float offset, float slope) {
  return grad * scale + (offset + slope * (x - center));
}

// Mean and biased variance from the sums of x - center and of its square.
LPLD_HD double moment_mean(double sum, float center, double elements) { return sum / elements + double(center); }
LPLD_HD double moment_variance(double sum, double squares, double elements) {
  const double offset = sum / elements, variance = squares / elements - offset * offset;
  return variance < 0.0 ? 0.0 : variance;  // NaN stays NaN
}

}  // namespace lpld
