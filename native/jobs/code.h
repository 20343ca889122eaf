#pragma once
// code: codecs over the records of a segment. A segment's records lie one after the other: rows in tensors [M, ...], blobs
// in one run of bytes cut by offsets [S + 1].
#include "codecs/codec.h"
#include "core/device.h"
#include "core/job.h"
#include "data/recipes.h"
#include "models/model.h"

namespace lpld {

// Which codec, and what it knows of the records besides the Recipes.
struct CodeSpec {
  std::string codec;
  TensorMap basis;
  at::Tensor record_ids;  // int32 [S]
  uint64_t seed;
  at::Tensor images;  // int32 [M], the images as codecs know them where a store holds a part of the set; else undefined
};

struct EncodedRecords {
  TensorMap rows;                // [M, ...]
  at::Tensor blob, blob_offset;  // uint8 [bytes], int64 [S + 1]; undefined where the codec writes none
};

void check_ids(const CodeSpec& spec, const Recipes& recipes);  // throws E_MISMATCH unless there is one per batch
std::unique_ptr<Codec> open_codec(const CodeSpec& spec, int64_t classes, const at::Device& device);
RecordContext context_of(const CodeSpec& spec, const Recipes& recipes, int64_t step);
Encoded record_of(const EncodedRecords& records, const Recipes& recipes, int64_t step);
// Throws E_MISMATCH unless rows and blobs fit the Recipes.
void check_records(const EncodedRecords& records, const Recipes& recipes);

class RecordJoiner {
 public:
  void add(Encoded record);
  EncodedRecords join() const;

 private:
  std::map<std::string, std::vector<at::Tensor>> rows_;
  std::vector<at::Tensor> blobs_;
  std::vector<int64_t> ends_{0};
};

struct CodingSpec {
  int64_t threads, classes;
  CodeSpec code;
  Recipes recipes;
};

// On one thread whatever spec.threads says: a basis, and so every byte encoded with it, depends on no number of threads.
TensorMap fit_codec(const CodingSpec& spec, const Head& head, const Answer& sample, const Answer& whole,
                    const JobContext& job);
EncodedRecords encode_labels(const CodingSpec& spec, const Answer& answers, const JobContext& job);
at::Tensor decode_labels(const CodingSpec& spec, const EncodedRecords& records, const JobContext& job);  // [M, K] float

}  // namespace lpld
