#include "job_start.h"
#include "jobs.h"
#include "jobs/label.h"

namespace lpld {

void check_fit(const Model& model, const ImageStore& store) {
  LPLD_CHECK(store.channels() == model.options.in_channels, Mismatch, "expected images of ", model.options.in_channels,
             " channels for this model but received ", store.channels());
  LPLD_CHECK(store.classes() <= model.options.num_classes, Mismatch, "expected class ids below ",
             model.options.num_classes, " for this model but the images have ", store.classes() - 1);
}

Handles handles_of(const Napi::CallbackInfo& info) {
  auto& model = ModelHandle::of(info[0]);
  auto& store = StoreHandle::of(info[1]);
  Handles handles{model.idle(), store.idle(), {model.life(), store.life()}};
  check_fit(*handles.model, *handles.store);
  return handles;
}

CodeSpec to_code(const Fields& spec) {
  return {spec.string("codec"), spec.tensors("basis"), spec.tensor("recordIds", at::kInt), spec.big("seed"), {}};
}

CodeSpec to_store_code(const Fields& spec) {
  CodeSpec code = to_code(spec);
  if (spec.has("images")) code.images = spec.tensor("images", at::kInt);
  return code;
}

EncodedRecords to_records(const Fields& spec) {
  EncodedRecords records{spec.tensors("tensors"), {}, {}};
  if (!spec.has("blobs")) return records;
  const Fields blobs = spec.object("blobs");
  records.blob = blobs.tensor("data", at::kByte);
  records.blob_offset = blobs.tensor("offset", at::kLong);
  return records;
}

void set_records(Napi::Env env, Napi::Object& out, const EncodedRecords& records) {
  out.Set("tensors", from_tensors(env, records.rows));
  if (!records.blob.defined()) {
    out.Set("blobs", env.Null());
    return;
  }
  auto blobs = Napi::Object::New(env);
  blobs.Set("data", from_tensor(env, records.blob));
  blobs.Set("offset", from_tensor(env, records.blob_offset));
  out.Set("blobs", blobs);
}

namespace {

// Several teachers and perhaps a store: (models, store, ...) or (models, ...).
struct TeacherHandles {
  std::vector<std::shared_ptr<Model>> models;
  std::vector<std::shared_ptr<HandleLife>> lives;
};
TeacherHandles teachers_of(const Napi::Value& value) {
  LPLD_CHECK(value.IsArray(), Internal, "expected an array of models");
  const auto array = value.As<Napi::Array>();
  TeacherHandles out;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    auto& handle = ModelHandle::of(array.Get(i));
    out.models.push_back(handle.idle());
    out.lives.push_back(handle.life());
  }
  return out;
}

// The same and a store that fits each of them: (models, store, ...).
struct TeachersAndStore {
  TeacherHandles teachers;
  std::shared_ptr<ImageStore> store;
};
TeachersAndStore teachers_and_store_of(const Napi::CallbackInfo& info) {
  TeacherHandles teachers = teachers_of(info[0]);
  auto& handle = StoreHandle::of(info[1]);
  const auto store = handle.idle();
  for (const auto& model : teachers.models) check_fit(*model, *store);
  teachers.lives.push_back(handle.life());
  return {std::move(teachers), store};
}

Ensemble to_ensemble(const std::string& name) {
  LPLD_CHECK(name == "mean" || name == "norm-mean", Internal, "expected mean or norm-mean for ensemble, received ",
             name);
  return name == "mean" ? Ensemble::Mean : Ensemble::NormMean;
}

TeacherMode to_teacher_mode(const std::string& name) {
  LPLD_CHECK(name == "eval" || name == "train", Internal, "expected eval or train for teacherMode, received ", name);
  return name == "eval" ? TeacherMode::Eval : TeacherMode::Train;
}

Answer to_answer(const Fields& answer) {
  return {answer.tensor("logits", at::kFloat),
          answer.has("features") ? answer.tensor("features", at::kFloat) : at::Tensor()};
}

CodingSpec to_coding(const Fields& f) {
  CodingSpec spec{f.integer("threads"), f.integer("numClasses"), to_code(f), to_recipes(f.object("recipes"))};
  LPLD_CHECK(spec.threads >= 1 && spec.classes >= 1, Internal, "expected threads and numClasses >= 1");
  return spec;
}

// Throws E_MISMATCH unless the answers are [M, K] (and features [M, ...]) for the Recipes' rows.
void check_answer(const Answer& answer, int64_t rows, int64_t classes) {
  LPLD_CHECK(answer.logits.dim() == 2 && answer.logits.size(0) == rows && answer.logits.size(1) == classes, Mismatch,
             "expected logits [", rows, ", ", classes, "] but received ", answer.logits.sizes());
  LPLD_CHECK(!answer.features.defined() || (answer.features.dim() == 2 && answer.features.size(0) == rows), Mismatch,
             "expected features [", rows, ", D] but received ", answer.features.sizes());
}

}  // namespace

Napi::Value js_answer(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const auto [teachers, store] = teachers_and_store_of(info);
    const Fields f(info[2], "answer spec");
    const AnswerSpec spec{to_execution(f),
                          to_recipes(f.object("recipes")),
                          to_input(f.object("input")),
                          to_ensemble(f.string("ensemble")),
                          to_teacher_mode(f.string("teacherMode")),
                          f.boolean("features")};
    return start(
        info, teachers.lives, info[3],
        [models = teachers.models, store = store, spec](const JobContext& job) {
          return answer(models, *store, spec, job);
        },
        [](Napi::Env env, Napi::Object& out, const Answer& result) {
          out.Set("logits", from_tensor(env, result.logits));
          out.Set("features", result.features.defined() ? Napi::Value(from_tensor(env, result.features)) : env.Null());
        });
  });
}

Napi::Value js_label(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const auto [teachers, store] = teachers_and_store_of(info);
    const Fields f(info[2], "label spec");
    const LabelSpec spec{to_execution(f),
                         to_recipes(f.object("recipes")),
                         to_input(f.object("input")),
                         to_ensemble(f.string("ensemble")),
                         to_teacher_mode(f.string("teacherMode")),
                         to_store_code(f),
                         f.boolean("hashPixels")};
    return start(
        info, teachers.lives, info[3],
        [models = teachers.models, store = store, spec](const JobContext& job) {
          return label(models, *store, spec, job);
        },
        [](Napi::Env env, Napi::Object& out, const LabelResult& result) {
          set_records(env, out, result.labels);
          out.Set("agreement", result.agreement);
          out.Set("pixelHash", result.pixel_hash);
        });
  });
}

Napi::Value js_fit_codec(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const TeacherHandles teachers = teachers_of(info[0]);
    const Fields f(info[1], "fitCodec spec");
    const CodingSpec spec = to_coding(f);
    const Answer sample = f.has("sample") ? to_answer(f.object("sample")) : Answer{};
    const Answer whole = f.has("whole") ? to_answer(f.object("whole")) : Answer{};
    if (sample.logits.defined()) check_answer(sample, spec.recipes.index.size(0), spec.classes);
    if (whole.logits.defined()) check_answer(whole, whole.logits.size(0), spec.classes);
    const CodecNeeds needs = make_codec(spec.code.codec)->needs();
    LPLD_CHECK((!needs.sample || sample.logits.defined()) && (!needs.whole || whole.logits.defined()), Internal,
               "expected the answers that codec ", spec.code.codec, " is fitted to");
    Head head;
    if (teachers.models.size() == 1) {
      const Linear& linear = teachers.models[0]->head();
      head = {linear.weight.detach().cpu(), linear.bias.detach().cpu()};
    }
    return start(
        info, teachers.lives, info[2],
        [spec, head, sample, whole](const JobContext& job) { return fit_codec(spec, head, sample, whole, job); },
        [](Napi::Env env, Napi::Object& out, const TensorMap& basis) { out.Set("basis", from_tensors(env, basis)); });
  });
}

Napi::Value js_encode(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Fields f(info[0], "encode spec");
    const CodingSpec spec = to_coding(f);
    const Answer answers = to_answer(f);
    check_answer(answers, spec.recipes.index.size(0), spec.classes);
    return start(
        info, {}, info[1], [spec, answers](const JobContext& job) { return encode_labels(spec, answers, job); },
        [](Napi::Env env, Napi::Object& out, const EncodedRecords& records) { set_records(env, out, records); });
  });
}

Napi::Value js_decode(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Fields f(info[0], "decode spec");
    const CodingSpec spec = to_coding(f);
    const EncodedRecords records = to_records(f);
    return start(
        info, {}, info[1],
        [spec, records](const JobContext& job) {
          check_records(records, spec.recipes);
          return decode_labels(spec, records, job);
        },
        [](Napi::Env env, Napi::Object& out, const at::Tensor& logits) {
          out.Set("logits", from_tensor(env, logits));
        });
  });
}

Napi::Value js_codec_needs(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    LPLD_CHECK(info[0].IsString(), Internal, "expected the name of a codec");
    const CodecNeeds needs = make_codec(info[0].As<Napi::String>().Utf8Value())->needs();
    auto out = Napi::Object::New(info.Env());
    out.Set("sample", needs.sample);
    out.Set("whole", needs.whole);
    out.Set("features", needs.features);
    return Napi::Value(out);
  });
}

}  // namespace lpld
