#include "jobs/time_op.h"

#include <ATen/ops/convolution_backward.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>

#include "core/aten.h"
#include "core/device.h"
#include "core/kernels.h"
#include "kernels/graph.h"
#include "ops/batch_norm_act.h"
#include "ops/bn_match.h"
#include "ops/crop_flip_roll.h"
#include "ops/norm_act.h"
#include "ops/pixel_adam.h"
#include "ops/winograd_conv.h"
#include "ops/winograd_weight_gradient.h"

namespace lpld {

namespace {

constexpr int kWarmUp = 3;  // runs before anything is captured or timed

using List = std::vector<at::Tensor>;
using Run = std::function<List()>;  // one run: what it computed

struct Names {
  const char* name;
  OpName op;
};
const Names kNames[] = {
    {"normAct", OpName::NormAct},           {"bnMatch", OpName::BnMatch}, {"cropFlipRoll", OpName::CropFlipRoll},
    {"pixelAdam", OpName::PixelAdam},       {"conv3", OpName::Conv3},     {"conv3Weight", OpName::Conv3Weight},
    {"batchNormAct", OpName::BatchNormAct}, {"copy", OpName::Copy}};

// Numbers in [-0.7, 1.3] with no structure that an op could use; of each seed others. No mean of them is near zero.
at::Tensor numbers(at::IntArrayRef shape, const TimeOpSpec& spec, at::ScalarType dtype, double seed) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(at::Device(spec.device));
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(count, options).remainder_(9973).mul_(1.7).add_(seed).sin_().add_(0.3).view(shape).to(dtype);
}

at::Tensor leaf(const at::Tensor& tensor) { return tensor.detach().set_requires_grad(true); }

Run norm_act_run(const TimeOpSpec& s, at::IntArrayRef shape) {
  const auto like = [&](double seed) {
    return numbers(shape, s, s.dtype, seed).contiguous(at::MemoryFormat::ChannelsLast);
  };
  const auto row = [&](double seed) { return numbers({s.channels}, s, at::kFloat, seed); };
  const auto moment = [&](double seed) { return numbers({s.groups, s.channels}, s, at::kDouble, seed); };
  const NormActInput in{leaf(like(1)), leaf(like(2)), row(3), row(4), row(5), true, s.groups};
  const List grads{like(6), moment(7), moment(8)};
  return [in, grads] {
    const NormAct out = norm_act(in);
    const List gradients = torch::autograd::grad({out.y, out.mean, out.variance}, {in.x, in.residual}, grads);
    return List{out.y.detach(), out.mean.detach(), out.variance.detach(), gradients[0], gradients[1]};
  };
}

Run bn_match_run(const TimeOpSpec& s) {
  const std::vector<int64_t> shape{s.groups, s.channels};
  const GroupMoments moments{leaf(numbers(shape, s, at::kDouble, 1)), leaf(numbers(shape, s, at::kDouble, 2))};
  const at::Tensor mean = numbers(shape, s, at::kFloat, 3), variance = numbers(shape, s, at::kFloat, 4),
                   grad = numbers({s.groups}, s, at::kDouble, 5);
  return [=] {
    const at::Tensor loss = bn_match(moments, mean, variance);
    const List gradients = torch::autograd::grad({loss}, {moments.mean, moments.variance}, {grad});
    return List{loss.detach(), gradients[0], gradients[1]};
  };
}

// One draw a group, each of other sizes.
Run crop_flip_roll_run(const TimeOpSpec& s, at::IntArrayRef shape) {
  at::Tensor crop = at::empty({1, s.groups, 4}, at::kInt), flip = at::empty({1, s.groups}, at::kByte),
             roll = at::empty({1, s.groups, 2}, at::kInt);
  for (int64_t g = 0; g < s.groups; ++g) {
    const auto side = int32_t(std::max<int64_t>(1, s.size * (3 + g % 5) / 8));
    const int32_t box[] = {int32_t(s.size) - side, 0, side, side};
    std::copy_n(box, 4, crop.mutable_data_ptr<int32_t>() + 4 * g);
    flip.mutable_data_ptr<uint8_t>()[g] = uint8_t(g % 2);
    roll.mutable_data_ptr<int32_t>()[2 * g] = 3;
    roll.mutable_data_ptr<int32_t>()[2 * g + 1] = -2;
  }
  const at::Device where = s.kernels ? at::Device(s.device) : at::Device(at::kCPU);
  const SynthesisDraws draws(crop, flip, roll, s.size, where);
  const at::Tensor x = leaf(numbers(shape, s, at::kFloat, 1)), grad = numbers(shape, s, at::kFloat, 2);
  return [=] {
    const at::Tensor y = crop_flip_roll(x, draws);
    return List{y.detach(), torch::autograd::grad({y}, {x}, {grad})[0]};
  };
}

// In place and from state to state; a clamp keeps it in range.
Run pixel_adam_run(const TimeOpSpec& s, at::IntArrayRef shape) {
  const at::Device device(s.device);
  const at::Tensor x = numbers(shape, s, at::kFloat, 1), m = numbers(shape, s, at::kFloat, 2),
                   v = numbers(shape, s, at::kFloat, 3).abs(), grad = numbers(shape, s, at::kFloat, 4);
  const at::Tensor low = at::full({s.channels}, -1.0, x.options()), high = low.neg();
  const AdamRule rule{0.01, 0.5, 0.9, 1e-8};
  const at::Tensor table = adam_table(at::full({1}, rule.lr, at::kDouble), 0, rule.beta1, rule.beta2).to(device);
  const at::Tensor counter = at::zeros({1}, at::TensorOptions().dtype(at::kLong).device(device));
  const bool ours = kernels_for(x) != nullptr;
  return [=] {
    const c10::AutoGradMode no_grad(false);
    if (ours)
      pixel_adam(x, m, v, grad, table, counter, rule, low, high);
    else
      pixel_adam(x, m, v, grad, 1, rule, low, high);
    return List{x, m, v};
  };
}

Run conv3_run(const TimeOpSpec& s, at::IntArrayRef shape) {
  const auto last = at::MemoryFormat::ChannelsLast;
  const at::Tensor x = leaf(numbers(shape, s, s.dtype, 1).contiguous(last)),
                   grad = numbers(shape, s, s.dtype, 2).contiguous(last);
  const at::Tensor weight = numbers({s.channels, s.channels, 3, 3}, s, at::kFloat, 3).mul_(0.05).contiguous(last);
  const bool ours = s.kernels && winograd_serves(weight, 1, 1, s.dtype);
  const WinogradWeights forward = ours ? winograd_weights(weight, s.dtype, 2) : WinogradWeights(),
                        backward = ours ? winograd_gradient_weights(weight, s.dtype, 2) : WinogradWeights();
  const at::Tensor plain = weight.to(s.dtype);
  return [=] {
    const at::Tensor y =
        ours ? winograd_conv(x, weight, at::Tensor(), forward, backward) : at::conv2d(x, plain, at::Tensor(), 1, 1);
    return List{y.detach(), torch::autograd::grad({y}, {x}, {grad})[0]};
  };
}

// The gradient to the weight of the same convolution.
Run conv3_weight_run(const TimeOpSpec& s, at::IntArrayRef shape) {
  const auto last = at::MemoryFormat::ChannelsLast;
  const at::Tensor x = numbers(shape, s, s.dtype, 1).contiguous(last),
                   grad = numbers(shape, s, s.dtype, 2).contiguous(last);
  const at::Tensor weight = numbers({s.channels, s.channels, 3, 3}, s, s.dtype, 3).contiguous(last);
  const bool ours = s.kernels && winograd_serves(weight.to(at::kFloat), 1, 1, s.dtype);
  return [=] {
    return List{
        ours ? winograd_weight_gradient(x, grad)
             : std::get<1>(at::convolution_backward(grad, x, weight, at::OptionalIntArrayRef(), {1, 1}, {1, 1}, {1, 1},
                                                    /*transposed=*/false, {0, 0}, /*groups=*/1, {false, true, false}))};
  };
}

Run batch_norm_act_run(const TimeOpSpec& s, at::IntArrayRef shape) {
  const auto like = [&](double seed) {
    return numbers(shape, s, s.dtype, seed).contiguous(at::MemoryFormat::ChannelsLast);
  };
  const auto row = [&](double seed) { return numbers({s.channels}, s, at::kFloat, seed); };
  const BatchNormActInput in{leaf(like(1)), leaf(like(2)), leaf(row(3)), leaf(row(4)), row(5),
                             row(6).abs(),  0.1,           1e-5,         true};
  const at::Tensor grad = like(7);
  const auto body = s.kernels ? batch_norm_act : batch_norm_act_by_aten;
  return [=] {
    const at::Tensor y = body(in);
    const List gradients = torch::autograd::grad({y}, {in.x, in.residual, in.weight, in.bias}, {grad});
    return List{y.detach(), gradients[0], gradients[1], gradients[2], gradients[3]};
  };
}

Run run_of(const TimeOpSpec& s) {
  const std::vector<int64_t> shape{s.groups * s.images, s.channels, s.size, s.size};
  switch (s.op) {
    case OpName::NormAct:
      return norm_act_run(s, shape);
    case OpName::BnMatch:
      return bn_match_run(s);
    case OpName::CropFlipRoll:
      return crop_flip_roll_run(s, shape);
    case OpName::PixelAdam:
      return pixel_adam_run(s, shape);
    case OpName::Conv3:
      return conv3_run(s, shape);
    case OpName::Conv3Weight:
      return conv3_weight_run(s, shape);
    case OpName::BatchNormAct:
      return batch_norm_act_run(s, shape);
    case OpName::Copy:
      break;
  }
  const at::Tensor from = numbers(shape, s, s.dtype, 1), to = at::empty_like(from);
  return [=] {
    const c10::AutoGradMode no_grad(false);
    return List{at::Tensor(to).copy_(from)};
  };
}

at::Tensor norms_of(const List& computed) {
  const c10::AutoGradMode no_grad(false);
  List norms;
  for (const at::Tensor& tensor : computed) norms.push_back(at::linalg_vector_norm(tensor.to(at::kDouble)).cpu());
  return at::stack(norms);
}

double by_the_clock(const std::function<void()>& work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

double by_events(const std::function<void()>& work, const c10::Stream& stream) {
  c10::Event began(stream.device_type(), c10::EventFlag::BACKEND_DEFAULT),
      ended(stream.device_type(), c10::EventFlag::BACKEND_DEFAULT);
  began.record(stream);
  work();
  ended.record(stream);
  ended.synchronize();
  return began.elapsedTime(ended) / 1000;
}

// Rounds of runs on the current stream, none on the CPU.
OpTimes measure(const TimeOpSpec& spec, const JobContext& job, const c10::Stream* stream) {
  const Run run = run_of(spec);
  OpTimes out{at::empty({spec.rounds}, at::kDouble), norms_of(run()), false};
  for (int i = 1; i < kWarmUp; ++i) run();
  std::unique_ptr<Graph> graph = stream != nullptr && spec.graph ? make_graph() : nullptr;
  if (graph != nullptr) {
    stream->synchronize();
    out.captured = graph->capture([&] { run(); }).empty();
  }
  const auto round = [&] {
    for (int64_t i = 0; i < spec.runs; ++i) out.captured ? graph->replay() : void(run());
  };
  for (int64_t i = 0; i < spec.rounds; ++i) {
    job.step(i, spec.rounds);
    const double seconds = stream != nullptr ? by_events(round, *stream) : by_the_clock(round);
    out.seconds.mutable_data_ptr<double>()[i] = seconds / double(spec.runs);
  }
  return out;
}

}  // namespace

OpName parse_op_name(const std::string& name) {
  std::string known;
  for (const Names& entry : kNames) {
    if (name == entry.name) return entry.op;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw Error(Code::Config, text("expected one of ", known, " for op but received \"", name, "\""));
}

OpTimes time_op(const TimeOpSpec& spec, const JobContext& job) {
  check_device(spec.device);
  LPLD_CHECK(spec.groups > 0 && spec.images > 0 && spec.channels > 0 && spec.size > 0 && spec.runs > 0 &&
                 spec.rounds > 0 && spec.threads > 0,
             Config, "expected sizes, runs, rounds and threads of at least 1 for a timed op, received ", spec.groups,
             ", ", spec.images, ", ", spec.channels, ", ", spec.size, "; ", spec.runs, ", ", spec.rounds, ", ",
             spec.threads);
  apply({Precision::Fp32, spec.threads, /*deterministic=*/false});  // else every new tensor would be filled first
  const c10::AutoGradMode grad(true);
  const std::unique_ptr<WithoutKernels> aten(spec.kernels ? nullptr : new WithoutKernels);
  const at::Device device(spec.device);
  if (device.is_cpu()) return measure(spec, job, nullptr);
  const c10::Stream stream = side_stream(device);
  const c10::StreamGuard on(stream);
  return measure(spec, job, &stream);
}

}  // namespace lpld
