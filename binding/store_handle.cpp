#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>

#include "convert.h"
#include "handles.h"

namespace lpld {

namespace {
constexpr napi_type_tag kStoreTag = {0x6c706c642d73746f, 0x72652d76312d0001};

}  // namespace

Napi::Function StoreHandle::define(Napi::Env env) {
  return with_symbol_dispose(
      env,
      DefineClass(env, "ImageStore",
                  {InstanceAccessor<&StoreHandle::state>("state"), InstanceAccessor<&StoreHandle::count>("count"),
                   InstanceAccessor<&StoreHandle::bytes>("bytes"), InstanceMethod<&StoreHandle::append>("append"),
                   InstanceMethod<&StoreHandle::sizes>("sizes"), InstanceMethod<&StoreHandle::labels>("labels"),
                   InstanceMethod<&StoreHandle::image>("image"), InstanceMethod<&StoreHandle::dispose>("dispose")}));
}

Napi::Value StoreHandle::create(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] { return info.Env().GetInstanceData<AddonData>()->store_class.New({info[0]}); });
}

StoreHandle::StoreHandle(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  info.This().As<Napi::Object>().TypeTag(&kStoreTag);
  guard(info.Env(), [&] {
    const Fields spec(info[0], "image store spec");
    check_device(spec.string("device"));
    store_ = std::make_shared<ImageStore>(spec.integer("channels"), spec.string("device"));
    return info.Env().Undefined();
  });
}

void StoreHandle::account(Napi::Env env, int64_t bytes) {
  Napi::MemoryManagement::AdjustExternalMemory(env, bytes - accounted_);
  accounted_ = bytes;
}

void StoreHandle::Finalize(Napi::Env env) { account(env, 0); }

StoreHandle& StoreHandle::of(const Napi::Value& value) {
  LPLD_CHECK(value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kStoreTag), Internal,
             "expected an ImageStore handle");
  return *ObjectWrap::Unwrap(value.As<Napi::Object>());
}

std::shared_ptr<ImageStore> StoreHandle::idle() const {
  LPLD_CHECK(life_->state != HandleState::Disposed && store_, Config,
             "expected an open ImageStore but it was disposed");
  LPLD_CHECK(life_->state == HandleState::Open, Config, "expected an idle ImageStore but a job is running on it");
  return store_;
}

Napi::Value StoreHandle::state(const Napi::CallbackInfo& info) {
  check_this(info, kStoreTag, "an ImageStore handle");
  return Napi::String::New(info.Env(), state_name(life_->state));
}

Napi::Value StoreHandle::count(const Napi::CallbackInfo& info) {
  check_this(info, kStoreTag, "an ImageStore handle");
  return Napi::Number::New(info.Env(), store_ ? double(store_->count()) : 0);
}

Napi::Value StoreHandle::bytes(const Napi::CallbackInfo& info) {
  check_this(info, kStoreTag, "an ImageStore handle");
  return Napi::Number::New(info.Env(), store_ ? double(store_->bytes()) : 0);
}

Napi::Value StoreHandle::append(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const auto store = idle();
    LPLD_CHECK(info[0].IsTypedArray() && info[1].IsTypedArray() &&
                   info[0].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array &&
                   info[1].As<Napi::TypedArray>().TypedArrayType() == napi_int32_array,
               Internal, "append: expected a Uint8Array of pixels and an Int32Array of labels");
    const auto images = info[0].As<Napi::Uint8Array>();
    const auto labels = info[1].As<Napi::Int32Array>();
    const Fields spec(info[2], "append spec");
    const std::string mode = spec.string("resize");
    LPLD_CHECK(mode == "none" || mode == "exact" || mode == "shorter", Internal,
               "expected none, exact or shorter for resize, received ", mode);
    const AppendSpec append{spec.integer("height"), spec.integer("width"),
                            mode == "none"    ? AppendResize::None
                            : mode == "exact" ? AppendResize::Exact
                                              : AppendResize::Shorter,
                            spec.integer("size"), spec.integer("centerCrop")};
    LPLD_CHECK(mode == "none" || append.size > 0, Config, "expected a stored size > 0 px, received ", append.size);
    store->append(images.Data(), int64_t(images.ByteLength()), labels.Data(), int64_t(labels.ElementLength()), append);
    account(info.Env(), store->bytes());
    return info.Env().Undefined();
  });
}

Napi::Value StoreHandle::sizes(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const auto store = idle();
    at::Tensor out = at::empty({store->count(), 2}, at::kInt);
    auto* p = out.mutable_data_ptr<int32_t>();
    for (int64_t i = 0; i < store->count(); ++i) {
      p[2 * i] = store->image(i).height;
      p[2 * i + 1] = store->image(i).width;
    }
    return from_tensor(info.Env(), out);
  });
}

Napi::Value StoreHandle::labels(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const auto store = idle();
    at::Tensor out = at::empty({store->count()}, at::kInt);
    std::memcpy(out.mutable_data_ptr(), store->labels().data(), store->labels().size() * sizeof(int32_t));
    return from_tensor(info.Env(), out);
  });
}

Napi::Value StoreHandle::image(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const auto store = idle();
    const double asked = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
    LPLD_CHECK(asked >= 0 && asked < double(store->count()) && asked == std::floor(asked), Config,
               "expected an image index in [0, ", store->count(), "), received ", asked);
    const auto index = int64_t(asked);
    const auto& image = store->image(index);
    at::Tensor out = at::empty({image.height, image.width, store->channels()}, at::kByte);
    std::memcpy(out.mutable_data_ptr(), store->pixels(index), out.nbytes());
    return from_tensor(info.Env(), out);
  });
}

Napi::Value StoreHandle::dispose(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    LPLD_CHECK(life_->state != HandleState::Busy, Config,
               "expected an idle ImageStore for dispose but a job is running on it");
    life_->state = HandleState::Disposed;
    store_.reset();
    return_memory(accounted_);
    account(info.Env(), 0);
    return info.Env().Undefined();
  });
}

}  // namespace lpld
