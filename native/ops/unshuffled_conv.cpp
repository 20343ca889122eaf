#include "ops/unshuffled_conv.h"

#include "core/aten.h"

namespace lpld {

bool unshuffles(const at::Tensor& x, const at::Tensor& weight, int64_t stride, int64_t padding) {
  const int64_t kernel = weight.size(2);
  return stride == 2 && kernel % 2 == 1 && kernel > 1 && padding == (kernel - 1) / 2 && weight.size(1) <= 4 &&
         x.size(2) % 2 == 0 && x.size(3) % 2 == 0;
}

at::Tensor unshuffled_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding) {
  LPLD_CHECK(
      x.dim() == 4 && weight.dim() == 4 && unshuffles(x, weight, 2, padding), Internal,
      "unshuffled_conv: expected even sides, at most 4 channels, an odd kernel and half of it as padding, received ",
      x.sizes(), ", ", weight.sizes(), ", padding ", padding);
  const int64_t out = weight.size(0), channels = weight.size(1), shift = padding % 2;
  const int64_t taps = (weight.size(2) + shift + 1) / 2, left = (padding + shift) / 2, right = taps - 1 - left;
  const int64_t after = 2 * taps - weight.size(2) - shift;
  const at::Tensor even = at::constant_pad_nd(weight, {shift, after, shift, after});  // [O, C, 2 taps, 2 taps]
  const at::Tensor blocks =
      even.reshape({out, channels, taps, 2, taps, 2})
          .permute({0, 1, 3, 5, 2, 4})  // channel c, row and column inside a block, as pixel_unshuffle
          .reshape({out, 4 * channels, taps, taps})
          .contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor image = at::constant_pad_nd(at::pixel_unshuffle(x, 2), {left, right, left, right});
  return at::conv2d(image.contiguous(at::MemoryFormat::ChannelsLast), blocks, bias);
}

}  // namespace lpld
