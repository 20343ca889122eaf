#include "handles.h"

#include <malloc.h>

namespace lpld {

const char* state_name(HandleState state) {
  return state == HandleState::Open ? "open" : state == HandleState::Busy ? "busy" : "disposed";
}

Napi::Function with_symbol_dispose(Napi::Env env, Napi::Function handle_class) {
  const Napi::Value symbol = env.Global().Get("Symbol").As<Napi::Object>().Get("dispose");
  if (!symbol.IsSymbol()) return handle_class;
  auto prototype = handle_class.Get("prototype").As<Napi::Object>();
  prototype.Set(symbol, prototype.Get("dispose"));
  return handle_class;
}

void check_this(const Napi::CallbackInfo& info, const napi_type_tag& tag, const char* what) {
  if (!info.This().IsObject() || !info.This().As<Napi::Object>().CheckTypeTag(&tag))
    throw to_js_error(info.Env(), Error(Code::Internal, text("expected ", what)));
}

void return_memory(int64_t freed) {
  if (freed > int64_t{1} << 20) malloc_trim(0);
}

}  // namespace lpld
