#pragma once
// label: the teacher's answers to replayed batches, encoded record by record without leaving the engine thread.
#include "jobs/answer.h"
#include "jobs/code.h"

namespace lpld {

struct LabelSpec {
  Execution execution;
  Recipes recipes;
  InputSpec input;
  Ensemble ensemble;
  TeacherMode mode;
  CodeSpec code;
  bool hash_pixels;
};

struct LabelResult {
  EncodedRecords labels;
  double agreement;  // share of rows whose argmax is the image's class
  std::string pixel_hash;
};

LabelResult label(const std::vector<std::shared_ptr<Model>>& teachers, const ImageStore& store, const LabelSpec& spec,
                  const JobContext& job);

}  // namespace lpld
