#include "ops/conv_norm_act.h"

#include "core/aten.h"
#include "core/device.h"

namespace lpld {

namespace {
using Operator = std::optional<c10::OperatorHandle>;

// LibTorch's compiler calls these by name; its C++ headers have no function for them.
const Operator& pointwise() {
  static const Operator found = c10::Dispatcher::singleton().findSchema({"mkldnn::_convolution_pointwise", ""});
  return found;
}
const Operator& pointwise_binary() {
  static const Operator found = c10::Dispatcher::singleton().findSchema({"mkldnn::_convolution_pointwise", "binary"});
  return found;
}

at::Tensor call(const c10::OperatorHandle& op, torch::jit::Stack arguments) {
  op.callBoxed(arguments);
  return arguments.front().toTensor();
}
}  // namespace

// Answers in float can afford the larger tiles: their error, 2e-6, is far below what a codec keeps, and nothing amplifies it.
FoldedConv fold(const ConvTaps& conv, const at::Tensor& scale, const at::Tensor& shift, at::ScalarType dtype) {
  const at::Tensor weight = conv.weight * scale.view({-1, 1, 1, 1});
  const at::Tensor bias = conv.bias.defined() ? conv.bias * scale + shift : shift;
  FoldedConv out{
      weight.to(dtype).contiguous(at::MemoryFormat::ChannelsLast), bias.to(dtype), conv.stride, conv.padding, {}, bias};
  if (winograd_serves(weight, conv.stride, conv.padding, dtype))
    out.winograd = winograd_weights(weight, dtype, dtype == at::kFloat ? 4 : 2);
  return out;
}

bool can_fold(const at::Device& device, at::ScalarType dtype) {
  if (!device.is_cpu() || !at::globalContext().userEnabledMkldnn()) return false;
  if (!pointwise() || !pointwise_binary()) return false;
  return dtype == at::kFloat || (dtype == at::kBFloat16 && cpu_features().avx512);
}

at::Tensor conv_norm_act(const ConvNormActInput& in) {
  LPLD_CHECK(can_fold(in.x.device(), in.x.scalar_type()), Internal,
             "expected a tensor that oneDNN computes on, received ", in.x.toString());
  if (in.conv.winograd.points.defined() && winograd_pays(in.x, in.conv.winograd.tile()))
    return winograd_conv(in.x, in.conv.winograd, {in.conv.float_bias, in.residual, in.relu});
  const std::vector<int64_t> stride(2, in.conv.stride), padding(2, in.conv.padding), dilation(2, 1);
  const c10::List<std::optional<at::Scalar>> none;  // ReLU takes no scalars
  const int64_t groups = 1;
  const auto plain = [&](bool relu) {
    return call(*pointwise(), {in.x, in.conv.weight, in.conv.bias, padding, stride, dilation, groups,
                               relu ? "relu" : "none", none, c10::IValue()});
  };
  if (!in.residual.defined()) return plain(in.relu);
  if (in.residual.size(2) * in.residual.size(3) == 1) {  // LibTorch 2.11 cannot add to answers of one pixel
    at::Tensor y = plain(false).add_(in.residual);
    return in.relu ? y.relu_() : y;
  }
  return call(*pointwise_binary(),
              {in.x, in.residual, in.conv.weight, in.conv.bias, padding, stride, dilation, groups, "add", at::Scalar(1),
               in.relu ? c10::IValue("relu") : c10::IValue(), none, c10::IValue()});
}

}  // namespace lpld
