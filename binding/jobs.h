#pragma once
// The jobs of native/jobs as JavaScript functions, and the synchronous door to single ops.
#include <napi.h>

namespace lpld {
Napi::Value js_train(const Napi::CallbackInfo& info);          // (model, store, spec, onProgress)
Napi::Value js_collect_stats(const Napi::CallbackInfo& info);  // (model, store, spec, onProgress)
Napi::Value js_synthesize(const Napi::CallbackInfo& info);     // (model, spec, onProgress)
Napi::Value js_answer(const Napi::CallbackInfo& info);         // (models, store, spec, onProgress)
Napi::Value js_label(const Napi::CallbackInfo& info);          // (models, store, spec, onProgress)
Napi::Value js_fit_codec(const Napi::CallbackInfo& info);      // (models, spec, onProgress)
Napi::Value js_encode(const Napi::CallbackInfo& info);         // (spec, onProgress)
Napi::Value js_decode(const Napi::CallbackInfo& info);         // (spec, onProgress)
Napi::Value js_codec_needs(const Napi::CallbackInfo& info);    // (name)
Napi::Value js_evaluate(const Napi::CallbackInfo& info);       // (model, store, spec, onProgress)
Napi::Value js_similarity(const Napi::CallbackInfo& info);     // (model, store, spec, onProgress)
Napi::Value js_time_op(const Napi::CallbackInfo& info);        // (spec, onProgress)
Napi::Object define_ops(Napi::Env env);                        // on the CPU
Napi::Value ops_on_device(const Napi::CallbackInfo& info);     // (device)
}  // namespace lpld
