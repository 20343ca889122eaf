#pragma once
// What the exported jobs share: handles checked and held, the spec's labels, and the way from a native result to the
// object a promise resolves to.
#include <utility>

#include "async_job.h"
#include "convert.h"
#include "handles.h"
#include "jobs/code.h"

namespace lpld {

// A model, a store and their lives: what every job that shows images to one model starts from.
struct Handles {
  std::shared_ptr<Model> model;
  std::shared_ptr<ImageStore> store;
  std::vector<std::shared_ptr<HandleLife>> lives;
};
Handles handles_of(const Napi::CallbackInfo& info);  // (model, store, ...)
// Throws E_MISMATCH unless the store's channels and class ids fit the model.
void check_fit(const Model& model, const ImageStore& store);

CodeSpec to_code(const Fields& spec);           // codec, basis, recordIds, seed
CodeSpec to_store_code(const Fields& spec);     // and images
EncodedRecords to_records(const Fields& spec);  // tensors, blobs
void set_records(Napi::Env env, Napi::Object& out, const EncodedRecords& records);

// Starts `run` on the engine thread; `show` fills the result object from what it returned.
template <class Run, class Show>
Napi::Value start(const Napi::CallbackInfo& info, std::vector<std::shared_ptr<HandleLife>> lives,
                  const Napi::Value& on_progress, Run run, Show show) {
  const Work work = [run = std::move(run), show](const JobContext& job) -> Finish {
    const auto result = run(job);
    return [result, show](Napi::Env env) -> Napi::Value {
      auto out = Napi::Object::New(env);
      show(env, out, result);
      return out;
    };
  };
  return start_job(info.Env(), work, std::move(lives), on_progress);
}

}  // namespace lpld
