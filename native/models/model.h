#pragma once
// A Model: weights under torchvision's state dict names, and one forward function that reads like torchvision's.
// Layers are handles to the tensors of `Model::tensors`; all compute goes through a Pass, which knows how (training or
// frozen, fp32 or bf16, tapped or not). No architecture file knows of classes, statistics or distillation.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ops/conv_norm_act.h"

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
  int64_t conv;             // the layer it follows
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

// One way of running a forward, made per job; making one prepares the model for it.
class Pass {
 public:
  // Trainable weights, batch statistics, running ones that move.
  static Pass training(Model& model, at::ScalarType dtype);
  // A frozen model that is asked for answers and nothing else.
  static Pass answering(Model& model, at::ScalarType dtype);
  // A frozen model whose BatchNorm inputs the tap is shown. The tap must outlive the Pass. `differentiable`: its gradient to
  // the images will be asked for.
  static Pass tapped(Model& model, at::ScalarType dtype, BnTap& tap, bool differentiable);
  // A frozen model whose BatchNorms normalise with the batch's own biased statistics and leave the running ones alone:
  // a PyTorch model in train mode, asked once. (There the running ones drift, which no answer in train mode shows.)
  static Pass with_batch_statistics(Model& model, at::ScalarType dtype);

  at::Tensor conv(const Conv& conv, const at::Tensor& x) const;
  at::Tensor linear(const Linear& linear, const at::Tensor& x) const;  // returns float
  struct Tail {
    const at::Tensor* residual = nullptr;
    Act act = Act::None;
  };
  // act(norm(conv(x)) + residual): the one point every architecture calls, so that implementations can fuse it.
  at::Tensor conv_norm(const Conv& conv, const BatchNorm& norm, const at::Tensor& x, Tail tail) const;
  at::Tensor input(const at::Tensor& x) const;  // to the compute dtype, channels-last
  // Into how many parts a batch [B, C, P, P] is best cut: more than one only where no image sees another.
  int64_t parts(const at::Tensor& images) const;

 private:
  enum class Mode { Training, Answering, Tapped, BatchStatistics };
  Pass(Model& model, Mode mode, at::ScalarType dtype, BnTap* tap, bool differentiable);
  struct Weights {
    at::Tensor weight, bias;
  };
  Weights weights(int64_t layer, const at::Tensor& weight, const at::Tensor& bias) const;
  at::Tensor norm(const BatchNorm& norm, const at::Tensor& x, Tail tail) const;
  const Model& model_;
  Mode mode_;
  at::ScalarType dtype_;
  BnTap* tap_;
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
  at::Tensor features(const Pass& pass, const at::Tensor& images) const;
  virtual const Linear& head() const = 0;                                 // the last linear layer, D -> K
  at::Tensor forward(const Pass& pass, const at::Tensor& images) const {  // logits [B, K] float
    return pass.linear(head(), features(pass, images));
  }

  // Weights want gradients, or are frozen and want none.
  void set_trainable(bool trainable);
  // What a frozen Pass reads, until set_trainable(true) takes it away: weights in `dtype`, norms as scale and shift, and, with
  // `fold_norms`, both in one (unless a weight is not finite: a ReLU of oneDNN's makes 0 of NaN, and answers of broken weights
  // must not look sound). `winograd`: convolutions as winograd_conv wants them, another 16/9 of the weights' bytes;
  // `gradients`: for their backward as well. Made again only where something changed since.
  struct FreezeOptions {
    bool fold_norms, winograd, gradients;
    bool operator==(const FreezeOptions&) const = default;
  };
  void freeze(at::ScalarType dtype, FreezeOptions how);

  struct Frozen {
    at::Tensor weight, bias;
    WinogradWeights winograd, winograd_gradient;  // without points where it does not serve or nothing asks for it
  };
  const Frozen& frozen(int64_t layer) const { return frozen_[size_t(layer)]; }
  // A frozen BatchNorm as x * scale + shift, and the running mean; float [C].
  struct Folded {
    at::Tensor scale, shift, center;
  };
  const Folded& folded(int64_t norm) const { return folded_[size_t(norm)]; }
  // The convolution before a norm with the norm folded in, or null where freeze() folded none.
  const FoldedConv* folded_conv(int64_t norm) const {
    return folded_convs_.empty() ? nullptr : &folded_convs_[size_t(norm)];
  }

  const ModelOptions options;
  std::vector<NamedTensor> tensors;     // torchvision's state dict order
  std::vector<NamedTensor> parameters;  // the trainable ones, in that order
  std::vector<const BatchNorm*> norms;  // enumeration order (named_modules)

  // Optimizer state, one entry per parameter; empty before the first training step.
  std::vector<at::Tensor> moment1, moment2;
  int64_t optimizer_steps = 0;

 protected:
  virtual at::Tensor body(const Pass& pass, const at::Tensor& images) const = 0;  // features of one part
  enum class Init { KaimingNormalFanOut, TorchDefault };
  Conv add_conv(const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride, bool bias, Init init);
  Linear add_linear(const std::string& name, int64_t in, int64_t out);
  const BatchNorm& add_norm(const std::string& name, const Conv& after);

 private:
  friend std::unique_ptr<Model> make_model(const ModelOptions& options, uint64_t seed);
  at::Tensor add(const std::string& name, at::IntArrayRef shape, bool trainable);
  struct Fill {
    enum { Constant, Normal, Uniform } kind;
    float scale;
  };
  std::vector<Fill> fills_;  // one per tensor
  std::vector<std::unique_ptr<BatchNorm>> norm_storage_;
  std::vector<ConvTaps> layers_;          // the float weights of every Conv and Linear
  std::vector<Frozen> frozen_;            // the same in the compute dtype, made by freeze()
  std::vector<Folded> folded_;            // one per norm, likewise
  std::vector<FoldedConv> folded_convs_;  // likewise
  struct FrozenKey {                      // what the last three were made of
    at::ScalarType dtype;
    FreezeOptions how;
    std::vector<uint64_t> versions;  // of `tensors`: what writes to one counts it up, but for a BatchNorm that trains
    bool operator==(const FrozenKey&) const = default;
  };
  std::optional<FrozenKey> frozen_key_;
  void thaw();
  void initialise(uint64_t seed);
};

std::vector<std::string> arch_names();
std::unique_ptr<Model> make_model(const ModelOptions& options, uint64_t seed);  // throws E_CONFIG naming the known ones

}  // namespace lpld
