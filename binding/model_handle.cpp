#include "convert.h"
#include "handles.h"
#include "models/state_dict.h"

namespace lpld {

namespace {
constexpr napi_type_tag kModelTag = {0x6c706c642d6d6f64, 0x656c2d76312d0001};

Fields spec_of(const Napi::CallbackInfo& info) { return Fields(info[0], "model spec"); }

ModelOptions to_options(const Fields& spec) {
  const Fields options = spec.object("options");
  const std::string stem = options.string("stem"), pooling = options.string("pooling");
  LPLD_CHECK(stem == "imagenet" || stem == "small", Config, "expected imagenet or small for stem, received ", stem);
  LPLD_CHECK(pooling == "avg" || pooling == "max", Config, "expected avg or max for pooling, received ", pooling);
  return {spec.string("arch"), spec.integer("numClasses"), spec.integer("inChannels"), spec.integer("inputSize"),
          stem == "small",     options.integers("widths"), pooling == "avg",           spec.string("device")};
}
}  // namespace

Napi::Function ModelHandle::define(Napi::Env env) {
  return with_symbol_dispose(env, DefineClass(env, "Model",
                                              {InstanceAccessor<&ModelHandle::state>("state"),
                                               InstanceAccessor<&ModelHandle::parameter_count>("parameterCount"),
                                               InstanceAccessor<&ModelHandle::norm_layers>("normLayers"),
                                               InstanceMethod<&ModelHandle::state_dict>("stateDict"),
                                               InstanceMethod<&ModelHandle::load_state_dict>("loadStateDict"),
                                               InstanceMethod<&ModelHandle::optimizer_state>("optimizerState"),
                                               InstanceMethod<&ModelHandle::load_optimizer_state>("loadOptimizerState"),
                                               InstanceMethod<&ModelHandle::dispose>("dispose")}));
}

Napi::Value ModelHandle::create(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] { return info.Env().GetInstanceData<AddonData>()->model_class.New({info[0]}); });
}

ModelHandle::ModelHandle(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  info.This().As<Napi::Object>().TypeTag(&kModelTag);
  guard(info.Env(), [&] {
    const Fields spec = spec_of(info);
    const ModelOptions options = to_options(spec);
    check_device(options.device);
    LPLD_CHECK(
        options.num_classes > 0 && options.input_size > 0 && (options.in_channels == 1 || options.in_channels == 3),
        Config, "expected numClasses > 0, inputSize > 0 and 1 or 3 channels, received ", options.num_classes, ", ",
        options.input_size, " and ", options.in_channels);
    model_ = make_model(options, spec.big("seed"));
    int64_t bytes = 0;
    for (const auto& tensor : model_->tensors) bytes += int64_t(tensor.value.nbytes());
    account(info.Env(), bytes);
    return info.Env().Undefined();
  });
}

void ModelHandle::account(Napi::Env env, int64_t bytes) {
  Napi::MemoryManagement::AdjustExternalMemory(env, bytes - accounted_);
  accounted_ = bytes;
}

void ModelHandle::Finalize(Napi::Env env) { account(env, 0); }

ModelHandle& ModelHandle::of(const Napi::Value& value) {
  LPLD_CHECK(value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kModelTag), Internal,
             "expected a Model handle");
  return *ObjectWrap::Unwrap(value.As<Napi::Object>());
}

std::shared_ptr<Model> ModelHandle::idle() const {
  LPLD_CHECK(life_->state != HandleState::Disposed && model_, Config, "expected an open Model but it was disposed");
  LPLD_CHECK(life_->state == HandleState::Open, Config, "expected an idle Model but a job is running on it");
  return model_;
}

Napi::Value ModelHandle::state(const Napi::CallbackInfo& info) {
  check_this(info, kModelTag, "a Model handle");
  return Napi::String::New(info.Env(), state_name(life_->state));
}

Napi::Value ModelHandle::parameter_count(const Napi::CallbackInfo& info) {
  check_this(info, kModelTag, "a Model handle");
  return guard(info.Env(), [&] {
    LPLD_CHECK(model_, Config, "expected an open Model but it was disposed");
    double count = 0;
    for (const auto& parameter : model_->parameters) count += double(parameter.value.numel());
    return Napi::Number::New(info.Env(), count);
  });
}

Napi::Value ModelHandle::norm_layers(const Napi::CallbackInfo& info) {
  check_this(info, kModelTag, "a Model handle");
  return guard(info.Env(), [&] {
    LPLD_CHECK(model_, Config, "expected an open Model but it was disposed");
    auto out = Napi::Array::New(info.Env());
    for (const BatchNorm* norm : model_->norms) {
      auto layer = Napi::Object::New(info.Env());
      layer.Set("name", norm->name);
      layer.Set("channels", double(norm->channels));
      out.Set(out.Length(), layer);
    }
    return out;
  });
}

Napi::Value ModelHandle::state_dict(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    auto out = Napi::Object::New(info.Env());
    for (const auto& [name, value] : idle()->tensors) out.Set(name, from_tensor(info.Env(), value));
    return out;
  });
}

Napi::Value ModelHandle::load_state_dict(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    lpld::load_state_dict(*idle(), to_tensors(info[0], "tensors"));
    return info.Env().Undefined();
  });
}

Napi::Value ModelHandle::optimizer_state(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] { return from_tensors(info.Env(), lpld::optimizer_state(*idle())); });
}

Napi::Value ModelHandle::load_optimizer_state(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    lpld::load_optimizer_state(*idle(), to_tensors(info[0], "tensors"));
    return info.Env().Undefined();
  });
}

Napi::Value ModelHandle::dispose(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    LPLD_CHECK(life_->state != HandleState::Busy, Config,
               "expected an idle Model for dispose but a job is running on it");
    life_->state = HandleState::Disposed;
    model_.reset();
    return_memory(accounted_);
    account(info.Env(), 0);
    return info.Env().Undefined();
  });
}

}  // namespace lpld
