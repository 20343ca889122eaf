#pragma once
// Model and ImageStore as JavaScript objects: open, busy (a job holds them) or disposed.
#include <napi.h>

#include <memory>

#include "async_job.h"
#include "data/image_store.h"
#include "models/model.h"

namespace lpld {

class ModelHandle : public Napi::ObjectWrap<ModelHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(const Napi::CallbackInfo& info);  // (spec: ModelSpec)
  explicit ModelHandle(const Napi::CallbackInfo& info);
  void Finalize(Napi::Env env) override;

  // The Model behind a JavaScript value; throws E_INTERNAL for anything else.
  static ModelHandle& of(const Napi::Value& value);
  std::shared_ptr<Model> idle() const;  // throws E_CONFIG unless open
  const std::shared_ptr<HandleLife>& life() const { return life_; }

 private:
  Napi::Value state(const Napi::CallbackInfo& info);
  Napi::Value parameter_count(const Napi::CallbackInfo& info);
  Napi::Value norm_layers(const Napi::CallbackInfo& info);
  Napi::Value state_dict(const Napi::CallbackInfo& info);
  Napi::Value load_state_dict(const Napi::CallbackInfo& info);
  Napi::Value optimizer_state(const Napi::CallbackInfo& info);
  Napi::Value load_optimizer_state(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  void account(Napi::Env env, int64_t bytes);

  std::shared_ptr<Model> model_;
  std::shared_ptr<HandleLife> life_ = std::make_shared<HandleLife>();
  int64_t accounted_ = 0;  // bytes V8 was told about
};

class StoreHandle : public Napi::ObjectWrap<StoreHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(const Napi::CallbackInfo& info);  // (spec: ImageStoreSpec)
  explicit StoreHandle(const Napi::CallbackInfo& info);
  void Finalize(Napi::Env env) override;

  static StoreHandle& of(const Napi::Value& value);
  std::shared_ptr<ImageStore> idle() const;
  const std::shared_ptr<HandleLife>& life() const { return life_; }

 private:
  Napi::Value state(const Napi::CallbackInfo& info);
  Napi::Value count(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value append(const Napi::CallbackInfo& info);
  Napi::Value sizes(const Napi::CallbackInfo& info);
  Napi::Value labels(const Napi::CallbackInfo& info);
  Napi::Value image(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  void account(Napi::Env env, int64_t bytes);

  std::shared_ptr<ImageStore> store_;
  std::shared_ptr<HandleLife> life_ = std::make_shared<HandleLife>();
  int64_t accounted_ = 0;
};

const char* state_name(HandleState state);
// Gives a class [Symbol.dispose], so that `using` works where the language has it.
Napi::Function with_symbol_dispose(Napi::Env env, Napi::Function handle_class);
// Throws E_INTERNAL unless `this` carries the tag: accessors may be borrowed for objects of another class, of which
// Node-API unwraps whatever it holds.
void check_this(const Napi::CallbackInfo& info, const napi_type_tag& tag, const char* what);
// Hands freed pages back to the system after a large handle: glibc keeps them otherwise.
void return_memory(int64_t freed);

}  // namespace lpld
