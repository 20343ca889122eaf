#include "models/model.h"

#include "core/aten.h"
#include "core/philox.h"
#include "ops/unshuffled_conv.h"

namespace lpld {

namespace {
constexpr uint32_t kPurposeWeights = 20;  // DESIGN section 3: object = tensor index

// A convolution that learns makes its points anew in every step. Measured with ResNet-18 on two threads: worth it from so many
// pixels of a batch on (20 images of 8 x 8 in fp32: 1.07x; in bf16 it is even), and the larger tiles, whose points are 36
// where they are 16, from images of so many pixels a side on (fp32, 64 px: 1.08x).
constexpr int64_t kPixelsToLearn = 1024, kSideOfLargeTiles = 16;

int64_t learning_tile(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat && x.size(2) >= kSideOfLargeTiles && winograd_pays(x, 4) ? 4 : 2;
}

// An undefined tensor (a layer without bias) stays undefined.
at::Tensor cast(const at::Tensor& tensor, at::ScalarType dtype) { return tensor.defined() ? tensor.to(dtype) : tensor; }
}  // namespace

Pass::Weights Pass::weights(int64_t layer, const at::Tensor& weight, const at::Tensor& bias) const {
  if (mode_ != Mode::Training) return {model_.frozen(layer).weight, model_.frozen(layer).bias};
  return {cast(weight, dtype_), cast(bias, dtype_)};
}

at::Tensor Pass::input(const at::Tensor& x) const { return x.to(dtype_).contiguous(at::MemoryFormat::ChannelsLast); }

at::Tensor Pass::conv(const Conv& conv, const at::Tensor& x) const {
  if (mode_ == Mode::Training) {
    if (x.numel() / x.size(1) >= kPixelsToLearn && winograd_pays(x, 2) &&
        winograd_serves(conv.weight, conv.stride, conv.padding, dtype_))
      return winograd_conv(x, conv.weight, conv.bias, winograd_weights(conv.weight, dtype_, learning_tile(x)), {});
  } else if (const Model::Frozen& frozen = model_.frozen(conv.layer);
             frozen.winograd.points.defined() && winograd_pays(x, frozen.winograd.tile())) {
    return winograd_conv(x, conv.weight, conv.bias, frozen.winograd, frozen.winograd_gradient);
  }
  const auto [weight, bias] = weights(conv.layer, conv.weight, conv.bias);
  // Worth it for its backward only, and only on a CPU; a weight that learns would see its gradient in another order.
  if (mode_ == Mode::Tapped && x.is_cpu() && x.requires_grad() && unshuffles(x, weight, conv.stride, conv.padding))
    return unshuffled_conv(x, weight, bias, conv.padding);
  return at::conv2d(x, weight, bias, {conv.stride, conv.stride}, {conv.padding, conv.padding});
}

at::Tensor Pass::linear(const Linear& linear, const at::Tensor& x) const {
  const auto [weight, bias] = weights(linear.layer, linear.weight, linear.bias);
  return at::linear(x, weight, bias).to(at::kFloat);
}

// A CPU answers in parts whose activations stay near its cache. Measured with ResNet-18 and batches of 100, two threads: 25
// images of 64 px with the small stem or of 224 px with the large one, whose activations are of one size, are 1.2x as fast
// (in fp32; in bf16 nothing is gained at 64 px).
int64_t Pass::parts(const at::Tensor& images) const {
  if (mode_ != Mode::Answering || !images.is_cpu() || images.numel() == 0) return 1;
  const int64_t pixels = images.size(2) * images.size(3), of_small = 25 * 64 * 64 / pixels,
                of_large = std::min<int64_t>(25, 25 * 224 * 224 / pixels);
  const int64_t part = std::max<int64_t>({1, of_small, of_large});
  return (images.size(0) + part - 1) / part;
}

at::Tensor Model::features(const Pass& pass, const at::Tensor& images) const {
  const int64_t parts = pass.parts(images);
  if (parts <= 1) return body(pass, images);
  std::vector<at::Tensor> features;
  for (const at::Tensor& part : images.chunk(parts, 0)) features.push_back(body(pass, part));
  return at::cat(features, 0);
}

void Model::set_trainable(bool trainable) {
  for (auto& parameter : parameters) {
    parameter.value.mutable_grad().reset();
    parameter.value.set_requires_grad(trainable);
  }
  if (trainable) thaw();  // batch_norm moves running statistics without counting their versions up
}

void Model::thaw() {
  frozen_key_.reset();
  frozen_.clear();
  folded_.clear();
  folded_convs_.clear();
}

void Model::freeze(at::ScalarType dtype, FreezeOptions how) {
  FrozenKey key{dtype, how, {}};
  for (const NamedTensor& tensor : tensors) key.versions.push_back(uint64_t(tensor.value._version()));
  if (frozen_key_ == key) return;
  thaw();
  const c10::AutoGradMode no_grad(false);
  for (const BatchNorm* norm : norms) {
    const at::Tensor scale = norm->weight / at::sqrt(norm->running_var + kBatchNormEps);
    const at::Tensor shift = norm->bias - norm->running_mean * scale;
    folded_.push_back({scale, shift, norm->running_mean.clone()});
    if (how.fold_norms) folded_convs_.push_back(fold(layers_[size_t(norm->conv)], scale, shift, dtype));
  }
  const auto finite = [](const FoldedConv& conv) {  // one sum tells: a NaN or an infinity stays in it
    return std::isfinite(conv.weight.sum(at::kDouble).item<double>() + conv.bias.sum(at::kDouble).item<double>());
  };
  if (!std::all_of(folded_convs_.begin(), folded_convs_.end(), finite)) folded_convs_.clear();
  for (const ConvTaps& layer : layers_) {
    Frozen frozen{cast(layer.weight, dtype), cast(layer.bias, dtype), {}, {}};
    if (how.winograd && winograd_serves(layer.weight, layer.stride, layer.padding, dtype)) {
      frozen.winograd = winograd_weights(layer.weight, dtype, 2);
      if (how.gradients) frozen.winograd_gradient = winograd_gradient_weights(layer.weight, dtype, 2);
    }
    frozen_.push_back(std::move(frozen));
  }
  frozen_key_ = std::move(key);
}

at::Tensor Model::add(const std::string& name, at::IntArrayRef shape, bool trainable) {
  const auto format = shape.size() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  at::Tensor value = at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(at::Device(options.device)), format);
  tensors.push_back({name, value});
  if (trainable) parameters.push_back({name, value});
  return value;
}

Conv Model::add_conv(const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride, bool bias,
                     Init init) {
  Conv conv;
  conv.weight = add(name + ".weight", {out, in, kernel, kernel}, true);
  const bool normal = init == Init::KaimingNormalFanOut;
  const float fan_in = float(in * kernel * kernel), fan_out = float(out * kernel * kernel);
  fills_.push_back(normal ? Fill{Fill::Normal, std::sqrt(2.0f / fan_out)}
                          : Fill{Fill::Uniform, 1.0f / std::sqrt(fan_in)});
  if (bias) {
    conv.bias = add(name + ".bias", {out}, true);
    fills_.push_back({Fill::Uniform, 1.0f / std::sqrt(fan_in)});
  }
  conv.stride = stride;
  conv.padding = kernel / 2;
  conv.layer = int64_t(layers_.size());
  layers_.push_back({conv.weight, conv.bias, conv.stride, conv.padding});
  return conv;
}

Linear Model::add_linear(const std::string& name, int64_t in, int64_t out) {
  Linear linear;
  linear.weight = add(name + ".weight", {out, in}, true);
  linear.bias = add(name + ".bias", {out}, true);
  const float bound = 1.0f / std::sqrt(float(in));
  fills_.push_back({Fill::Uniform, bound});
  fills_.push_back({Fill::Uniform, bound});
  linear.layer = int64_t(layers_.size());
  layers_.push_back({linear.weight, linear.bias, 0, 0});
  return linear;
}

const BatchNorm& Model::add_norm(const std::string& name, const Conv& after) {
  const int64_t channels = after.weight.size(0);
  auto norm = std::make_unique<BatchNorm>();
  norm->name = name;
  norm->channels = channels;
  norm->layer = int64_t(norms.size());
  norm->conv = after.layer;
  norm->weight = add(name + ".weight", {channels}, true);
  norm->bias = add(name + ".bias", {channels}, true);
  norm->running_mean = add(name + ".running_mean", {channels}, false);
  norm->running_var = add(name + ".running_var", {channels}, false);
  for (const float value : {1.0f, 0.0f, 0.0f, 1.0f}) fills_.push_back({Fill::Constant, value});
  norm->batches = at::zeros({}, at::TensorOptions().dtype(at::kLong).device(at::Device(options.device)));
  tensors.push_back({name + ".num_batches_tracked", norm->batches});
  fills_.push_back({Fill::Constant, 0.0f});
  norms.push_back(norm.get());
  norm_storage_.push_back(std::move(norm));
  return *norms.back();
}

// Philox purpose 20, object = position among the float tensors; drawn on the CPU in row-major order, then
// uploaded.
void Model::initialise(uint64_t seed) {
  const c10::AutoGradMode no_grad(false);
  uint32_t object = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    at::Tensor& value = tensors[i].value;
    if (value.scalar_type() != at::kFloat) continue;
    const Philox stream{seed, kPurposeWeights, object++, 0};
    const Fill& fill = fills_[i];
    if (fill.kind == Fill::Constant) {
      value.fill_(fill.scale);
      continue;
    }
    at::Tensor drawn = at::empty(value.sizes(), at::kFloat);
    float* out = drawn.mutable_data_ptr<float>();
    if (fill.kind == Fill::Normal) {
      stream.normals(out, drawn.numel());
      drawn.mul_(fill.scale);
    } else {
      stream.uniforms(out, drawn.numel());
      drawn.mul_(2 * fill.scale).sub_(fill.scale);
    }
    value.copy_(drawn);
  }
}

}  // namespace lpld
