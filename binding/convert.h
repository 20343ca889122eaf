#pragma once
// JavaScript values <-> native structs. A spec object is read once, field by field; TypeScript fills every field, so a
// missing one is E_INTERNAL. Tensors are copied in and out: V8 and LibTorch never share memory.
#include <ATen/core/Tensor.h>
#include <napi.h>

#include <map>
#include <string>
#include <vector>

#include "core/device.h"
#include "data/image_store.h"
#include "data/recipes.h"

namespace lpld {

using TensorMap = std::map<std::string, at::Tensor>;

// Reads the fields of one spec object; every getter throws E_INTERNAL naming the field.
class Fields {
 public:
  Fields(const Napi::Value& value, const char* what);
  double number(const char* name) const;
  int64_t integer(const char* name) const;
  bool boolean(const char* name) const;
  std::string string(const char* name) const;
  uint64_t big(const char* name) const;  // BigInt
  std::vector<int64_t> integers(const char* name) const;
  at::Tensor tensor(const char* name) const;
  at::Tensor tensor(const char* name, at::ScalarType dtype) const;  // E_INTERNAL for another dtype
  TensorMap tensors(const char* name) const;
  Fields object(const char* name) const;
  bool has(const char* name) const;  // false for null
  Napi::Value get(const char* name) const;

 private:
  [[noreturn]] void refuse(const char* name, const char* wanted) const;
  Napi::Object object_;
  std::string what_;
};

at::Tensor to_tensor(const Napi::Value& value, const std::string& name);
TensorMap to_tensors(const Napi::Value& value, const std::string& name);
Napi::Object from_tensor(Napi::Env env, const at::Tensor& tensor);
Napi::Object from_tensors(Napi::Env env, const TensorMap& tensors);

Execution to_execution(const Fields& spec);
Recipes to_recipes(const Fields& recipes);
InputSpec to_input(const Fields& input);

}  // namespace lpld
