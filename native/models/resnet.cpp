// resnet18/34/50/101 (He et al. 2016) with torchvision's tensor names; the stem is ImageNet's (7x7 stride 2,
// max pool) or small (3x3 stride 1, no pool: the Tiny-ImageNet and CIFAR variant of methods 0.3).
#include "models/resnet.h"

#include "core/aten.h"

namespace lpld {

namespace {
struct Block {
  std::vector<Conv> convs;
  std::vector<const BatchNorm*> norms;
  bool projected = false;
  Conv project;
  const BatchNorm* project_norm = nullptr;
};

class ResNet final : public Model {
 public:
  ResNet(const ModelOptions& o, std::vector<int64_t> depths, bool bottleneck) : Model(o) {
    const Init init = Init::KaimingNormalFanOut;
    stem_ = o.small_stem ? add_conv("conv1", o.in_channels, 64, 3, 1, false, init)
                         : add_conv("conv1", o.in_channels, 64, 7, 2, false, init);
    stem_norm_ = &add_norm("bn1", stem_);
    int64_t in = 64;
    const int64_t expansion = bottleneck ? 4 : 1;
    for (size_t stage = 0; stage < depths.size(); ++stage) {
      const int64_t width = int64_t{64} << stage;
      for (int64_t i = 0; i < depths[stage]; ++i) {
        const int64_t stride = stage > 0 && i == 0 ? 2 : 1, out = width * expansion;
        const std::string name = text("layer", stage + 1, '.', i, '.');
        Block block;
        const auto layer = [&](int number, int64_t from, int64_t to, int64_t kernel, int64_t by) {
          block.convs.push_back(add_conv(text(name, "conv", number), from, to, kernel, by, false, init));
          block.norms.push_back(&add_norm(text(name, "bn", number), block.convs.back()));
        };
        if (bottleneck) {  // torchvision's variant: the stride sits on the 3x3 convolution
          layer(1, in, width, 1, 1);
          layer(2, width, width, 3, stride);
          layer(3, width, out, 1, 1);
        } else {
          layer(1, in, width, 3, stride);
          layer(2, width, width, 3, 1);
        }
        if (stride != 1 || in != out) {
          block.projected = true;
          block.project = add_conv(name + "downsample.0", in, out, 1, stride, false, init);
          block.project_norm = &add_norm(name + "downsample.1", block.project);
        }
        blocks_.push_back(std::move(block));
        in = out;
      }
    }
    head_ = add_linear("fc", in, o.num_classes);
  }

  at::Tensor features(const Pass& pass, const at::Tensor& images) const override {
    at::Tensor x = pass.conv_norm(stem_, *stem_norm_, pass.input(images), {.act = Act::Relu});
    if (!options.small_stem) x = at::max_pool2d(x, {3, 3}, {2, 2}, {1, 1});
    for (const Block& block : blocks_) {
      at::Tensor y = x;
      const size_t last = block.convs.size() - 1;
      for (size_t i = 0; i < last; ++i) y = pass.conv_norm(block.convs[i], *block.norms[i], y, {.act = Act::Relu});
      const at::Tensor shortcut = block.projected ? pass.conv_norm(block.project, *block.project_norm, x, {}) : x;
      x = pass.conv_norm(block.convs[last], *block.norms[last], y, {.residual = &shortcut, .act = Act::Relu});
    }
    return at::adaptive_avg_pool2d(x, {1, 1}).flatten(1);  // [B, D]
  }
  const Linear& head() const override { return head_; }

 private:
  Conv stem_;
  const BatchNorm* stem_norm_;
  std::vector<Block> blocks_;
  Linear head_;
};
}  // namespace

std::unique_ptr<Model> make_resnet18(const ModelOptions& o) {
  return std::make_unique<ResNet>(o, std::vector<int64_t>{2, 2, 2, 2}, false);
}
std::unique_ptr<Model> make_resnet34(const ModelOptions& o) {
  return std::make_unique<ResNet>(o, std::vector<int64_t>{3, 4, 6, 3}, false);
}
std::unique_ptr<Model> make_resnet50(const ModelOptions& o) {
  return std::make_unique<ResNet>(o, std::vector<int64_t>{3, 4, 6, 3}, true);
}
std::unique_ptr<Model> make_resnet101(const ModelOptions& o) {
  return std::make_unique<ResNet>(o, std::vector<int64_t>{3, 4, 23, 3}, true);
}

}  // namespace lpld
