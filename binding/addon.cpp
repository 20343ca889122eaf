// The export table: one line per name, in the order of NativeBinding (src/native.ts).
#include <napi.h>

#include <cstdlib>

#include "async_job.h"
#include "codecs/codec.h"
#include "core/device.h"
#include "core/host_memory.h"
#include "handles.h"
#include "jobs.h"

namespace lpld {

namespace {

Napi::Value info_of(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    auto out = Napi::Object::New(info.Env());
    const CpuFeatures features = cpu_features();
    auto cpu = Napi::Object::New(info.Env());
    cpu.Set("avx512", features.avx512);
    cpu.Set("avx512Bf16", features.avx512_bf16);
    cpu.Set("amxBf16", features.amx_bf16);
    out.Set("addon", LPLD_VERSION);
    out.Set("compiled", compiled_version());
    out.Set("runtime", runtime_version());
    out.Set("kernels", kernels_loaded());
    out.Set("graph", graph_loaded());
    out.Set("cpu", cpu);
    return out;
  });
}

Napi::Value cuda_of(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const CudaReport report = cuda_report();
    auto out = Napi::Object::New(info.Env());
    auto devices = Napi::Array::New(info.Env());
    for (const auto& device : report.devices) {
      auto shown = Napi::Object::New(info.Env());
      shown.Set("name", device.name);
      shown.Set("memory", double(device.memory));
      devices.Set(devices.Length(), shown);
    }
    out.Set("available", report.available);
    out.Set("devices", devices);
    out.Set("reason", report.reason);
    return out;
  });
}

Napi::Value device_memory_of(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    LPLD_CHECK(info[0].IsString(), Internal, "expected the name of a device");
    const DeviceMemory memory = device_memory(info[0].As<Napi::String>().Utf8Value());
    auto out = Napi::Object::New(info.Env());
    out.Set("free", double(memory.free));
    out.Set("total", double(memory.total));
    return out;
  });
}

Napi::Value host_memory_of(const Napi::CallbackInfo& info) {
  const HostMemory memory = host_memory();
  auto out = Napi::Object::New(info.Env());
  out.Set("used", double(memory.used));
  out.Set("kept", double(memory.kept));
  out.Set("fresh", double(memory.fresh));
  out.Set("reused", double(memory.reused));
  return out;
}

Napi::Value load_kernels_of(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    LPLD_CHECK(info[0].IsString(), Internal, "expected the path of liblpld_kernels.so");
    load_kernels(info[0].As<Napi::String>().Utf8Value());
    return info.Env().Undefined();
  });
}

Napi::Value load_graph_of(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    LPLD_CHECK(info[0].IsString(), Internal, "expected the path of liblpld_graph.so");
    load_graph(info[0].As<Napi::String>().Utf8Value());
    return info.Env().Undefined();
  });
}

Napi::Value names(Napi::Env env, const std::vector<std::string>& list) {
  auto out = Napi::Array::New(env);
  for (const auto& name : list) out.Set(out.Length(), name);
  return out;
}
Napi::Value archs_of(const Napi::CallbackInfo& info) { return names(info.Env(), arch_names()); }
Napi::Value codecs_of(const Napi::CallbackInfo& info) { return names(info.Env(), codec_names()); }

Napi::Value shutdown_of(const Napi::CallbackInfo& info) {
  info.Env().GetInstanceData<AddonData>()->stop_jobs();
  return info.Env().Undefined();
}

// process.once('exit', shutdown): environment cleanup hooks do not run on process.exit() or an uncaught
// exception.
void hook_process_exit(Napi::Env env, const Napi::Function& shutdown) {
  const Napi::Value process = env.Global().Get("process");
  if (!process.IsObject()) return;
  const Napi::Value once = process.As<Napi::Object>().Get("once");
  if (once.IsFunction()) once.As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), shutdown});
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  guard(env, [&] {
    check_runtime_version();
    install_host_memory();
    return env.Undefined();
  });
  auto* data = new AddonData;
  env.SetInstanceData(data);
  data->model_class = Napi::Persistent(ModelHandle::define(env));
  data->store_class = Napi::Persistent(StoreHandle::define(env));
  static const int registered = std::atexit(stop_engine);
  (void)registered;
  env.AddCleanupHook([data] { data->stop_jobs(); });

  const auto function = [&](const char* name, Napi::Value (*body)(const Napi::CallbackInfo&)) {
    auto f = Napi::Function::New(env, body, name);
    exports.Set(name, f);
    return f;
  };
  function("info", info_of);
  function("cuda", cuda_of);
  function("deviceMemory", device_memory_of);
  function("hostMemory", host_memory_of);
  function("loadKernels", load_kernels_of);
  function("loadGraph", load_graph_of);
  function("archs", archs_of);
  function("codecs", codecs_of);
  function("createModel", ModelHandle::create);
  function("createImageStore", StoreHandle::create);
  function("train", js_train);
  function("collectStats", js_collect_stats);
  function("synthesize", js_synthesize);
  function("answer", js_answer);
  function("label", js_label);
  function("codecNeeds", js_codec_needs);
  function("fitCodec", js_fit_codec);
  function("encode", js_encode);
  function("decode", js_decode);
  function("evaluate", js_evaluate);
  function("similarity", js_similarity);
  function("timeOp", js_time_op);
  hook_process_exit(env, function("shutdown", shutdown_of));
  exports.Set("ops", define_ops(env));
  function("opsOn", ops_on_device);
  return exports;
}

}  // namespace

}  // namespace lpld

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return lpld::init(env, exports); }
NODE_API_MODULE(lpld, Init)
