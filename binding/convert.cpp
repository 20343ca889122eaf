#include "convert.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>

#include "core/error.h"

namespace lpld {

namespace {
constexpr double kLargestInteger = 9007199254740991.0;  // of a JavaScript number

struct DtypeName {
  const char* name;
  at::ScalarType type;
};
// The names safetensors writes (src/tensor.ts).
const DtypeName kDtypes[] = {{"U8", at::kByte},  {"I8", at::kChar},       {"BOOL", at::kBool}, {"U16", at::kUInt16},
                             {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"I16", at::kShort}, {"U32", at::kUInt32},
                             {"I32", at::kInt},  {"F32", at::kFloat},     {"I64", at::kLong},  {"F64", at::kDouble}};
}  // namespace

Fields::Fields(const Napi::Value& value, const char* what) : what_(what) {
  LPLD_CHECK(value.IsObject(), Internal, "expected an object for ", what);
  object_ = value.As<Napi::Object>();
}

void Fields::refuse(const char* name, const char* wanted) const {
  throw Error(Code::Internal, text("expected ", wanted, " for ", what_, ".", name));
}

Napi::Value Fields::get(const char* name) const { return object_.Get(name); }

double Fields::number(const char* name) const {
  const Napi::Value value = get(name);
  if (!value.IsNumber()) refuse(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t Fields::integer(const char* name) const {
  const double value = number(name);
  if (!(std::abs(value) <= kLargestInteger) || value != double(int64_t(value))) refuse(name, "an integer");
  return int64_t(value);
}

bool Fields::boolean(const char* name) const {
  const Napi::Value value = get(name);
  if (!value.IsBoolean()) refuse(name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string Fields::string(const char* name) const {
  const Napi::Value value = get(name);
  if (!value.IsString()) refuse(name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

uint64_t Fields::big(const char* name) const {
  const Napi::Value value = get(name);
  if (!value.IsBigInt()) refuse(name, "a bigint");
  bool lossless = false;
  const uint64_t out = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) refuse(name, "a bigint in [0, 2^64)");
  return out;
}

std::vector<int64_t> Fields::integers(const char* name) const {
  const Napi::Value value = get(name);
  if (!value.IsArray()) refuse(name, "an array of integers");
  const auto array = value.As<Napi::Array>();
  std::vector<int64_t> out;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value item = array[i];
    const double number = item.IsNumber() ? item.As<Napi::Number>().DoubleValue() : std::nan("");
    if (!(std::abs(number) <= kLargestInteger) || number != std::floor(number)) refuse(name, "an array of integers");
    out.push_back(int64_t(number));
  }
  return out;
}

at::Tensor Fields::tensor(const char* name) const { return to_tensor(get(name), what_ + "." + name); }

at::Tensor Fields::tensor(const char* name, at::ScalarType dtype) const {
  const at::Tensor out = tensor(name);
  LPLD_CHECK(out.scalar_type() == dtype, Internal, "expected dtype ", c10::toString(dtype), " for ", what_, ".", name,
             ", received ", c10::toString(out.scalar_type()));
  return out;
}

TensorMap Fields::tensors(const char* name) const { return to_tensors(get(name), what_ + "." + name); }
bool Fields::has(const char* name) const { return !get(name).IsNull(); }
Fields Fields::object(const char* name) const { return Fields(get(name), (what_ + "." + name).c_str()); }

at::Tensor to_tensor(const Napi::Value& value, const std::string& name) {
  const Fields view(value, name.c_str());
  const std::string dtype = view.string("dtype");
  const std::vector<int64_t> shape = view.integers("shape");
  for (const int64_t size : shape) LPLD_CHECK(size >= 0, Internal, "expected sizes >= 0 for ", name, ".shape");
  const Napi::Value data = value.As<Napi::Object>().Get("data");
  LPLD_CHECK(data.IsTypedArray() && data.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array, Internal,
             "expected a Uint8Array for ", name, ".data");
  const auto bytes = data.As<Napi::Uint8Array>();
  for (const auto& entry : kDtypes) {
    if (dtype != entry.name) continue;
    double wanted = double(c10::elementSize(entry.type));  // exact wherever it can equal a ByteLength
    for (const int64_t size : shape) wanted *= double(size);
    LPLD_CHECK(wanted == double(bytes.ByteLength()), Internal, "expected ", wanted, " bytes for ", name, " of shape ",
               at::IntArrayRef(shape), ", received ", bytes.ByteLength());
    at::Tensor out = at::empty(shape, at::TensorOptions().dtype(entry.type));
    if (out.nbytes() > 0) std::memcpy(out.mutable_data_ptr(), bytes.Data(), out.nbytes());
    return out;
  }
  throw Error(Code::Internal, text("expected a known dtype for ", name, ", received ", dtype));
}

TensorMap to_tensors(const Napi::Value& value, const std::string& name) {
  LPLD_CHECK(value.IsObject(), Internal, "expected an object of tensors for ", name);
  const auto object = value.As<Napi::Object>();
  const Napi::Array keys = object.GetPropertyNames();
  TensorMap out;
  for (uint32_t i = 0; i < keys.Length(); ++i) {
    const Napi::Value key = keys.Get(i);  // as a value: a name from a file may hold a zero byte
    const std::string shown = key.As<Napi::String>().Utf8Value();
    out[shown] = to_tensor(object.Get(key), name + "." + shown);
  }
  return out;
}

Napi::Object from_tensor(Napi::Env env, const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().cpu().contiguous();
  auto out = Napi::Object::New(env);
  for (const auto& entry : kDtypes)
    if (host.scalar_type() == entry.type) out.Set("dtype", entry.name);
  auto shape = Napi::Array::New(env, size_t(host.dim()));
  for (int64_t i = 0; i < host.dim(); ++i) shape.Set(uint32_t(i), double(host.size(i)));
  out.Set("shape", shape);
  auto data = Napi::Uint8Array::New(env, host.nbytes());
  if (host.nbytes() > 0) std::memcpy(data.Data(), host.const_data_ptr(), host.nbytes());
  out.Set("data", data);
  return out;
}

Napi::Object from_tensors(Napi::Env env, const TensorMap& tensors) {
  auto out = Napi::Object::New(env);
  for (const auto& [name, tensor] : tensors) out.Set(name, from_tensor(env, tensor));
  return out;
}

Execution to_execution(const Fields& spec) {
  Execution execution{parse_precision(spec.string("precision")), spec.integer("threads"),
                      spec.boolean("deterministic")};
  LPLD_CHECK(execution.threads >= 1, Internal, "expected threads >= 1, received ", execution.threads);
  return execution;
}

Recipes to_recipes(const Fields& r) {
  return {r.tensor("offset", at::kInt),   r.tensor("index", at::kInt),    r.tensor("crop", at::kInt),
          r.tensor("flip", at::kByte),    r.tensor("cutout", at::kInt),   r.tensor("cutoutColor", at::kByte),
          r.tensor("mixKind", at::kByte), r.tensor("mixIndex", at::kInt), r.tensor("mixBox", at::kInt),
          r.tensor("lambda", at::kFloat)};
}

InputSpec to_input(const Fields& input) {
  InputSpec out{input.integer("size"), input.tensor("normalize", at::kFloat)};
  LPLD_CHECK(out.size > 0 && out.normalize.dim() == 2 && out.normalize.size(1) == 256, Internal,
             "expected input.size > 0 and input.normalize [C, 256], received ", out.normalize.sizes());
  return out;
}

}  // namespace lpld
