#include "jobs/time_op.h"

#include "job_start.h"
#include "jobs.h"

namespace lpld {

Napi::Value js_time_op(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Fields f(info[0], "timeOp spec");
    const std::string dtype = f.string("dtype");
    LPLD_CHECK(dtype == "F32" || dtype == "BF16", Config, "expected F32 or BF16 for dtype but received \"", dtype,
               "\"");
    const TimeOpSpec spec{parse_op_name(f.string("op")),
                          f.string("device"),
                          dtype == "F32" ? at::kFloat : at::kBFloat16,
                          f.integer("groups"),
                          f.integer("imagesPerGroup"),
                          f.integer("channels"),
                          f.integer("size"),
                          f.boolean("kernels"),
                          f.integer("threads"),
                          f.boolean("graph"),
                          f.integer("runs"),
                          f.integer("rounds")};
    return start(
        info, {}, info[1], [spec](const JobContext& job) { return time_op(spec, job); },
        [](Napi::Env env, Napi::Object& out, const OpTimes& result) {
          out.Set("seconds", from_tensor(env, result.seconds));
          out.Set("norms", from_tensor(env, result.norms));
          out.Set("captured", result.captured);
        });
  });
}

}  // namespace lpld
