// convnet: the ConvNet-D of the dataset distillation papers (DC, Zhao et al. 2021) with BatchNorm: D blocks
// of 3x3 convolution, BatchNorm, ReLU, 2x2 pooling; then one linear layer. Width of each block from
// options.widths.
#include "models/convnet.h"

#include "core/aten.h"

namespace lpld {

namespace {
class ConvNet final : public Model {
 public:
  explicit ConvNet(const ModelOptions& o) : Model(o) {
    LPLD_CHECK(!o.widths.empty(), Config, "expected at least one width for convnet, received none");
    int64_t channels = o.in_channels, size = o.input_size;
    for (size_t i = 0; i < o.widths.size(); ++i) {
      LPLD_CHECK(size >= 2, Config, "expected an input of at least ", int64_t{1} << o.widths.size(),
                 " px for a convnet of depth ", o.widths.size(), " but received ", o.input_size);
      LPLD_CHECK(o.widths[i] > 0, Config, "expected widths > 0 for convnet, received ", o.widths[i]);
      const std::string block = text("features.", i);
      convs_.push_back(add_conv(block + ".conv", channels, o.widths[i], 3, 1, /*bias=*/true, Init::TorchDefault));
      norms_.push_back(&add_norm(block + ".norm", convs_.back()));
      channels = o.widths[i];
      size /= 2;
    }
    classifier_ = add_linear("classifier", channels * size * size, o.num_classes);
  }

  at::Tensor body(const Pass& pass, const at::Tensor& images) const override {
    at::Tensor x = pass.input(images);  // [B, C, P, P]
    for (size_t i = 0; i < convs_.size(); ++i) {
      x = pass.conv_norm(convs_[i], *norms_[i], x, {.act = Act::Relu});  // [B, W, H, H]
      x = options.average_pooling ? at::avg_pool2d(x, {2, 2}, {2, 2}) : at::max_pool2d(x, {2, 2}, {2, 2});
    }
    return x.contiguous().flatten(1);  // [B, D]
  }
  const Linear& head() const override { return classifier_; }

 private:
  std::vector<Conv> convs_;
  std::vector<const BatchNorm*> norms_;
  Linear classifier_;
};
}  // namespace

std::unique_ptr<Model> make_convnet(const ModelOptions& options) { return std::make_unique<ConvNet>(options); }

}  // namespace lpld
