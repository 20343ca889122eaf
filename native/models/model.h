#pragma once
// A Model: weights under torchvision's state dict names, and one forward function that reads like torchvision's.
// Layers are handles to the tensors of `Model::tensors`; all compute goes through a Pass, which knows how (training or
// frozen, fp32 or bf16, tapped or not). No architecture file knows of classes, statistics or distillation.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lpld {

enum class Act { None, Relu };

// PyTorch's constants.
constexpr double kBatchNormEps = 1e-5, kBatchNormMomentum = 0.1;

struct Conv {
  at::Tensor weight, bias;  // [out, in, k, k]; bias undefined or [out]
  int64_t stride, padding;
  int64_t layer;  // position in Model::frozen
};
struct Linear {
  at::Tensor weight, bias;  // [out, in], [out]
  int64_t layer;
};
struct BatchNorm {
  at::Tensor weight, bias, running_mean, running_var, batches;
  std::string name;
  int64_t channels, layer;  // position in Model::norms
};

// Shown the moments of every BatchNorm input once per forward, in call order; layer numbers are construction order.
class BnTap {
 public:
  virtual ~BnTap() = default;
  virtual int64_t groups(int64_t images) const = 0;  // into how many equal groups a batch of images is cut
  // mean, variance [G, C] double, biased, over the `elements` values of a group and channel
  virtual void see(const BatchNorm& norm, const at::Tensor& mean, const at::Tensor& variance, int64_t elements) = 0;
};

class Model;

// One way of running a forward: made per job after Model::prepare with the same training flag and dtype.
class Pass {
 public:
  Pass(const Model& model, bool training, at::ScalarType dtype, BnTap* tap)
      : model_(model), training_(training), dtype_(dtype), tap_(tap) {}
  // A frozen model whose BatchNorms normalise with the batch's own biased statistics and leave the running ones alone:
  // a PyTorch model in train mode, asked once. (There the running ones drift, which no answer in train mode shows.)
  static Pass with_batch_statistics(const Model& model, at::ScalarType dtype);
  at::Tensor conv(const Conv& conv, const at::Tensor& x) const;
  at::Tensor linear(const Linear& linear, const at::Tensor& x) const;  // returns float
  // act(norm(x) + residual): the one point every architecture calls, so that implementations can fuse it.
  struct Tail {
    const at::Tensor* residual = nullptr;
    Act act = Act::None;
  };
  at::Tensor norm(const BatchNorm& norm, const at::Tensor& x, Tail tail) const;
  at::Tensor input(const at::Tensor& x) const;  // to the compute dtype, channels-last

 private:
  struct Weights {
    at::Tensor weight, bias;
  };
  Weights weights(int64_t layer, const at::Tensor& weight, const at::Tensor& bias) const;
  const Model& model_;
  bool training_;
  at::ScalarType dtype_;
  BnTap* tap_;
  bool batch_statistics_ = false;
};

struct ModelOptions {
  std::string arch;
  int64_t num_classes, in_channels, input_size;
  bool small_stem;
  std::vector<int64_t> widths;
  bool average_pooling;
  std::string device;
};

struct NamedTensor {
  std::string name;
  at::Tensor value;
};

class Model {
 public:
  explicit Model(ModelOptions options) : options(std::move(options)) {}
  virtual ~Model() = default;
  // Input of the last linear layer: images [B, C, P, P] -> [B, D] in the compute dtype.
  virtual at::Tensor features(const Pass& pass, const at::Tensor& images) const = 0;
  virtual const Linear& head() const = 0;                                 // the last linear layer, D -> K
  at::Tensor forward(const Pass& pass, const at::Tensor& images) const {  // logits [B, K] float
    return pass.linear(head(), features(pass, images));
  }

  // Before a job: trainable weights want gradients; frozen ones are cast to `dtype` once.
  void prepare(bool training, at::ScalarType dtype);

  struct Frozen {
    at::Tensor weight, bias;
  };
  const Frozen& frozen(int64_t layer) const { return frozen_[size_t(layer)]; }
  // A frozen BatchNorm as x * scale + shift, and the running mean; float [C].
  struct Folded {
    at::Tensor scale, shift, center;
  };
  const Folded& folded(int64_t norm) const { return folded_[size_t(norm)]; }

  const ModelOptions options;
  std::vector<NamedTensor> tensors;     // torchvision's state dict order
  std::vector<NamedTensor> parameters;  // the trainable ones, in that order
  std::vector<const BatchNorm*> norms;  // enumeration order (named_modules)

  // Optimizer state, one entry per parameter; empty before the first training step.
  std::vector<at::Tensor> moment1, moment2;
  int64_t optimizer_steps = 0;

 protected:
  enum class Init { KaimingNormalFanOut, TorchDefault };
  Conv add_conv(const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride, bool bias, Init init);
  Linear add_linear(const std::string& name, int64_t in, int64_t out);
  const BatchNorm& add_norm(const std::string& name, int64_t channels);

 private:
  friend std::unique_ptr<Model> make_model(const ModelOptions& options, uint64_t seed);
  at::Tensor add(const std::string& name, at::IntArrayRef shape, bool trainable);
  struct Fill {
    enum { Constant, Normal, Uniform } kind;
    float scale;
  };
  std::vector<Fill> fills_;  // one per tensor
  std::vector<std::unique_ptr<BatchNorm>> norm_storage_;
  std::vector<Frozen> layers_;  // the float weights of every Conv and Linear
  std::vector<Frozen> frozen_;  // the same in the compute dtype, made by prepare(false, dtype)
  std::vector<Folded> folded_;  // likewise
  void initialise(uint64_t seed);
};

std::vector<std::string> arch_names();
std::unique_ptr<Model> make_model(const ModelOptions& options, uint64_t seed);  // throws E_CONFIG naming the known ones

}  // namespace lpld
