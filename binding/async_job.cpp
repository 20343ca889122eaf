#include "async_job.h"

#include <malloc.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <optional>
#include <thread>
#include <utility>

#include "core/device.h"
#include "core/host_memory.h"

namespace lpld {

// ---- The engine thread

namespace {

// Hands freed pages of the heap back to the system, at most once a second. glibc does so by itself only at the top of a
// heap, and a spec's megabytes copied before small things of longer life leave holes that the next spec does not fit into.
// On the engine thread, between jobs: no lock is needed.
void trim_now_and_then() {
  static auto last = std::chrono::steady_clock::time_point{};
  const auto now = std::chrono::steady_clock::now();
  if (now - last < std::chrono::seconds(1)) return;
  malloc_trim(0);
  last = now;
}

class Engine {
 public:
  static Engine& get() {
    static auto* engine = new Engine;  // never destroyed: exit() must not race its thread
    return *engine;
  }
  void post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    tasks_.push_back(std::move(task));
    wake_.notify_one();
  }
  // Lets the queue drain (its jobs were cancelled) and ends the thread.
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      wake_.notify_one();
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        const auto ready = [this] { return stopping_ || !tasks_.empty(); };
        // Long enough for what lies between two jobs of a stage: memory mapped anew can cost seconds a
        // gigabyte in a virtual machine (docs/results.md, relabel).
        if (!wake_.wait_for(lock, std::chrono::seconds(10), ready)) {
          lock.unlock();
          release_host_memory();
          malloc_trim(0);
          lock.lock();
          wake_.wait(lock, ready);
        }
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      keep_host_memory();
      task();
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  std::thread thread_;
  bool stopping_ = false;
};

std::atomic<bool> g_stop_everything{false};

}  // namespace

void stop_engine() {
  g_stop_everything = true;
  Engine::get().stop();
}

// ---- Errors

Napi::Error to_js_error(Napi::Env env, const Error& error) {
  auto out = Napi::Error::New(env, error.what());
  out.Set("code", Napi::String::New(env, code_name(error.code())));
  auto details = Napi::Object::New(env);
  if (!error.reason().empty()) details.Set("reason", error.reason());
  out.Set("details", details);
  return out;
}

Napi::Value guard(Napi::Env env, const std::function<Napi::Value()>& body) {
  Napi::Value out;
  std::exception_ptr javascript;  // a Napi::Error is a std::exception: keep it away from translate()
  try {
    translate([&] {
      try {
        out = body();
      } catch (const Napi::Error&) {
        javascript = std::current_exception();
      }
    });
  } catch (const Error& error) {
    throw to_js_error(env, error);
  }
  if (javascript) std::rethrow_exception(javascript);
  return out;
}

// ---- One job

class AsyncJob : public std::enable_shared_from_this<AsyncJob> {
 public:
  AsyncJob(Napi::Env env, Work work, std::vector<std::shared_ptr<HandleLife>> handles)
      : deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)), handles_(std::move(handles)) {}

  void cancel() { cancel_ = true; }
  void wait() {
    std::unique_lock lock(mutex_);
    ended_wake_.wait(lock, [this] { return ended_; });
  }

  // On the engine thread, or at the end of an environment on its own thread, where a job that was cancelled before it
  // started ends at once: its notify function dies with the environment, so it must not be left in the queue.
  void run() {
    if (claim()) execute();
  }

  static Napi::Value start(Napi::Env env, std::shared_ptr<AsyncJob> job, const Napi::Value& on_progress) {
    auto* data = env.GetInstanceData<AddonData>();
    {
      const std::lock_guard lock(data->mutex);
      data->jobs.insert(job);
    }
    for (auto& handle : job->handles_) handle->state = HandleState::Busy;
    // The finalizer runs on the JavaScript thread once the engine thread has released the function.
    job->notify_ = Notify::New(
        env, on_progress.As<Napi::Function>(), "lpld job", 0, 1, job.get(),
        [data, job](Napi::Env, void*, AsyncJob*) {
          job->listener_error_.reset();
          const std::lock_guard lock(data->mutex);
          data->jobs.erase(job);
        },
        static_cast<void*>(nullptr));
    Engine::get().post([job] { job->run(); });

    auto out = Napi::Object::New(env);
    out.Set("promise", job->deferred_.Promise());
    std::weak_ptr<AsyncJob> weak = job;
    out.Set("cancel", Napi::Function::New(
                          env,
                          [weak](const Napi::CallbackInfo&) {
                            if (auto alive = weak.lock()) alive->cancel();
                          },
                          "cancel"));
    return out;
  }

 private:
  static void on_javascript(Napi::Env env, Napi::Function listener, AsyncJob* job, void*) {
    if (env == nullptr || job == nullptr) return;  // the queue is drained at teardown
    try {
      job->deliver(env, listener);
    } catch (const Napi::Error&) {
      // The environment is being torn down (worker.terminate()): every call into JavaScript throws now, and
      // an exception leaving this frame would abort the process.
      job->cancel();
    }
  }
  using Notify = Napi::TypedThreadSafeFunction<AsyncJob, void, &AsyncJob::on_javascript>;

  bool claim() {
    const std::lock_guard lock(mutex_);
    return !std::exchange(started_, true);
  }

  void execute() {
    bool closing = false;
    const auto poke = [&] {
      if (closing) return;
      if (notify_.NonBlockingCall() == napi_closing) closing = true, cancel_ = true;
    };
    auto last = std::chrono::steady_clock::time_point{};
    Progress seen;
    const JobContext context(cancel_, [&](const Progress& progress) {
      if (g_stop_everything) cancel_ = true;
      seen = progress;
      const auto now = std::chrono::steady_clock::now();
      if (now - last < std::chrono::milliseconds(100) && progress.done > 0) return;
      last = now;
      bool queue;
      {
        const std::lock_guard lock(mutex_);
        progress_ = progress;
        queue = !pending_;
        pending_ = true;
      }
      if (queue) poke();
    });
    Finish finish;
    std::optional<Error> error;
    try {
      if (cancel_ || g_stop_everything) throw Error(Code::Cancelled, "cancelled before it started");
      translate([&] { finish = work_(context); });
    } catch (const Error& e) {
      error = e;
    }
    work_ = nullptr;
    settle_host_memory();
    trim_now_and_then();
    {
      const std::lock_guard lock(mutex_);
      if (!error && seen.total > 0) {
        progress_ = {seen.total, seen.total, seen.loss};
        pending_ = true;
      }
      finish_ = std::move(finish);
      error_ = std::move(error);
      done_ = true;
    }
    poke();
    if (!closing) notify_.Release();  // after napi_closing the function must not be touched again
    const std::lock_guard lock(mutex_);
    ended_ = true;
    ended_wake_.notify_all();
  }

  void deliver(Napi::Env env, Napi::Function listener) {
    Progress progress;
    bool had, done;
    {
      const std::lock_guard lock(mutex_);
      progress = progress_;
      had = pending_;
      done = done_ && !settled_;
    }
    if (had && !settled_) {
      auto shown = Napi::Object::New(env);
      shown.Set("done", double(progress.done));
      shown.Set("total", double(progress.total));
      shown.Set("loss", progress.loss);
      try {
        listener.Call({shown});
      } catch (const Napi::Error& thrown) {
        // A throwing listener fails the job instead of becoming an uncaught exception.
        cancel();
        if (!listener_error_) listener_error_ = thrown;
      }
      // Only now, so that a listener slower than the job's progress leaves the event loop its turns.
      const std::lock_guard lock(mutex_);
      pending_ = done_ && !done;  // the last report came meanwhile: the poke that follows shows it
    }
    if (!done) return;
    settled_ = true;
    for (auto& handle : handles_)
      if (handle->state == HandleState::Busy) handle->state = HandleState::Open;
    if (listener_error_) {
      deferred_.Reject(listener_error_->Value());
      listener_error_.reset();
    } else if (error_) {
      deferred_.Reject(to_js_error(env, *error_).Value());
    } else {
      try {
        deferred_.Resolve(guard(env, [&] { return finish_(env); }));
      } catch (const Napi::Error& thrown) {
        deferred_.Reject(thrown.Value());
      }
    }
    finish_ = nullptr;
  }

  Napi::Promise::Deferred deferred_;
  Notify notify_;
  Work work_;
  std::vector<std::shared_ptr<HandleLife>> handles_;
  std::atomic<bool> cancel_{false};

  std::mutex mutex_;
  std::condition_variable ended_wake_;
  Progress progress_;
  Finish finish_;
  std::optional<Error> error_;
  bool pending_ = false, started_ = false, done_ = false, ended_ = false;
  bool settled_ = false;                       // JavaScript thread only
  std::optional<Napi::Error> listener_error_;  // JavaScript thread only
};

void AddonData::stop_jobs() {
  std::unordered_set<std::shared_ptr<AsyncJob>> copy;
  {
    const std::lock_guard lock(mutex);
    copy = jobs;
  }
  for (const auto& job : copy) job->cancel();
  for (const auto& job : copy) job->run();
  for (const auto& job : copy) job->wait();
}

Napi::Value start_job(Napi::Env env, Work work, std::vector<std::shared_ptr<HandleLife>> handles,
                      const Napi::Value& on_progress) {
  LPLD_CHECK(on_progress.IsFunction(), Internal, "expected a progress function");
  for (const auto& handle : handles) {
    LPLD_CHECK(handle->state != HandleState::Disposed, Config, "expected an open handle but it was disposed");
    LPLD_CHECK(handle->state != HandleState::Busy, Config, "expected an idle handle but a job is running on it");
  }
  release_idle_threads();  // of single ops that ran on this thread
  return AsyncJob::start(env, std::make_shared<AsyncJob>(env, std::move(work), std::move(handles)), on_progress);
}

}  // namespace lpld
