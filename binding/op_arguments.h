#pragma once
// What single ops read from a call and give back (ops.cpp, layer_ops.cpp). An argument that is not what an op takes is
// E_INTERNAL: callers are typed.
#include <napi.h>

#include <cmath>
#include <string>
#include <utility>

#include "convert.h"
#include "core/error.h"

namespace lpld {

using Info = Napi::CallbackInfo;
inline at::Tensor tensor_at(const Info& info, size_t i) { return to_tensor(info[i], text("argument ", i + 1)); }

// Where the ops of the table being called compute (opsOn); set for the length of one synchronous call.
inline thread_local at::Device g_device(at::kCPU);
inline at::Tensor on_device(const at::Tensor& tensor) { return tensor.to(g_device); }
inline at::Tensor device_at(const Info& info, size_t i) { return on_device(tensor_at(info, i)); }
inline double number_at(const Info& info, size_t i) {
  LPLD_CHECK(info[i].IsNumber(), Internal, "expected a number for argument ", i + 1);
  return info[i].As<Napi::Number>().DoubleValue();
}
inline int64_t integer_at(const Info& info, size_t i) {
  const double value = number_at(info, i);
  LPLD_CHECK(std::abs(value) <= 9007199254740991.0 && value == std::floor(value), Internal,
             "expected an integer for argument ", i + 1, ", received ", value);
  return int64_t(value);
}
inline std::string string_at(const Info& info, size_t i) {
  LPLD_CHECK(info[i].IsString(), Internal, "expected a string for argument ", i + 1);
  return info[i].As<Napi::String>().Utf8Value();
}
inline Napi::Object object(Napi::Env env, std::initializer_list<std::pair<const char*, at::Tensor>> tensors) {
  auto out = Napi::Object::New(env);
  for (const auto& [name, tensor] : tensors) out.Set(name, from_tensor(env, tensor));
  return out;
}

// A leaf that wants a gradient, a function of it, and the gradient of sum(f(leaf) * weight).
struct Gradient {
  at::Tensor leaf;
  explicit Gradient(const at::Tensor& x) : leaf(x.detach()) { leaf.set_requires_grad(true); }
  at::Tensor of(const at::Tensor& y) {
    y.sum().backward({}, /*retain_graph=*/true);
    at::Tensor grad = leaf.grad();
    leaf.mutable_grad().reset();
    return grad;
  }
};

}  // namespace lpld
