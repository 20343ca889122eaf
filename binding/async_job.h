#pragma once
// Jobs: one process-wide engine thread runs all heavy work of all JavaScript threads, first in, first out, never on
// libuv's pool. Progress goes through one coalescing slot, at most ten calls a second. The only place where native
// errors become JavaScript errors. Leaving the process in the middle of a job is safe through three hooks (process
// 'exit', environment cleanup, atexit), each of which cancels and waits for the current step.
#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "core/job.h"

namespace lpld {

// A handle's life: open -> busy (a job holds it) -> open -> disposed.
enum class HandleState { Open, Busy, Disposed };
struct HandleLife {
  HandleState state = HandleState::Open;
};

class AsyncJob;

// One per JavaScript environment (the main thread, each worker). Nothing bound to an environment lives in a static.
struct AddonData {
  Napi::FunctionReference model_class, store_class;
  std::mutex mutex;
  std::unordered_set<std::shared_ptr<AsyncJob>> jobs;
  void stop_jobs();  // cancels all jobs of this environment and waits until none runs
};

Napi::Error to_js_error(Napi::Env env, const Error& error);

// Runs an exported function's body: native errors become JavaScript errors with a code, Napi::Error passes through.
Napi::Value guard(Napi::Env env, const std::function<Napi::Value()>& body);

// What a job makes on the JavaScript thread from what it computed on the engine thread.
using Finish = std::function<Napi::Value(Napi::Env)>;
using Work = std::function<Finish(const JobContext&)>;

// Starts work on the engine thread; `handles` are busy until it settles. Returns {promise, cancel()}.
Napi::Value start_job(Napi::Env env, Work work, std::vector<std::shared_ptr<HandleLife>> handles,
                      const Napi::Value& on_progress);

void stop_engine();  // cancels everything and waits; for atexit

}  // namespace lpld
