#pragma once
// One axis of crop, bilinear resize, mirror and circular shift: which two source positions an output position reads, and
// which outputs read a source position (for the gradient, as a gather). The CPU bodies take a
// line's taps from it at once, the CUDA kernels gather with it. Source: methods 0.5 steps 2 and 3; tested in
// test/ops/crop-flip-roll.test.ts.
#include <cstdint>

#include "core/host_device.h"

namespace lpld {

template <class T>
struct Axis {
  int64_t size;           // P
  int64_t start, length;  // of the crop, inside [0, P)
  bool mirror;
  int64_t shift;
};

template <class T>
struct Tap {
  int64_t low, high;  // positions inside the crop
  T weight;           // of high; low has 1 - weight
};

// The tap of a position of the resized crop, before mirror and shift.
template <class T>
LPLD_HD Tap<T> resized_tap(const Axis<T>& axis, int64_t resized) {
  const T scale = T(axis.length) / T(axis.size);
  const T raw = scale * (T(resized) + T(0.5)) - T(0.5);
  const T at = raw < T(0) ? T(0) : raw;
  const int64_t last = axis.length - 1;
  const int64_t low = int64_t(at) < last ? int64_t(at) : last;
  const int64_t high = low + 1 < last ? low + 1 : last;
  return {low, high, at - T(low)};
}

template <class T>
LPLD_HD Tap<T> axis_tap(const Axis<T>& axis, int64_t position) {
  const int64_t resized = ((position - axis.shift) % axis.size + axis.size) % axis.size;
  return resized_tap(axis, axis.mirror ? axis.size - 1 - resized : resized);
}

// The output position of a position of the resized crop: the inverse of the above.
template <class T>
LPLD_HD int64_t axis_position(const Axis<T>& axis, int64_t resized) {
  const int64_t seen = axis.mirror ? axis.size - 1 - resized : resized;
  return ((seen + axis.shift) % axis.size + axis.size) % axis.size;
}

// The first resized position whose low tap is at least `low`, P where there is none. Low taps never fall, so that a guess
// and steps to either side are exact whatever the guess.
template <class T>
LPLD_HD int64_t first_reader(const Axis<T>& axis, int64_t low) {
  const T guess = (T(low) + T(0.5)) * T(axis.size) / T(axis.length) - T(0.5);
  int64_t resized = guess < T(0) ? 0 : int64_t(guess);
  if (resized > axis.size) resized = axis.size;
  while (resized > 0 && resized_tap(axis, resized - 1).low >= low) --resized;
  while (resized < axis.size && resized_tap(axis, resized).low < low) ++resized;
  return resized;
}

// Resized positions [first, last) are all that read `source`, a position inside the crop.
struct Readers {
  int64_t first, last;
};
template <class T>
LPLD_HD Readers axis_readers(const Axis<T>& axis, int64_t source) {
  if (source < 0 || source >= axis.length) return {0, 0};
  return {first_reader(axis, source - 1), first_reader(axis, source + 1)};
}

// With what weight the tap reads `source`.
template <class T>
LPLD_HD T tap_weight(const Tap<T>& tap, int64_t source) {
  return (tap.low == source ? T(1) - tap.weight : T(0)) + (tap.high == source ? tap.weight : T(0));
}

}  // namespace lpld
