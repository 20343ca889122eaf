#pragma once
// codec: how the teacher's answers are stored. One file per codec, one line each in registry.cpp.
//   fit      once per store, from the answers to the first records of the plan: named tensors stored once (the basis; may
//            be empty), float64 on the CPU
//   bind     once per job: checks a basis and keeps what encode and decode need of it
//   encode   the answers of one record (n rows) -> tensors whose first dimension is n, and at most one blob of bytes
//   decode   those -> logits [n, K] float on the device given to bind
// A record is decoded alone: nothing is predicted from another record but through the basis. Names carry parameters,
// "dense:f16", "topk:50:mr"; the same name and basis give the same bytes on every machine.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lpld {

using TensorMap = std::map<std::string, at::Tensor>;

struct Answer {
  at::Tensor logits;    // [n, K] float on the CPU
  at::Tensor features;  // [n, D] float on the CPU, input of the last linear layer; undefined unless needs().features
};

// What is known of a record's rows without a stored byte; all on the CPU.
struct RecordContext {
  uint64_t seed;       // of the store's streams: dither
  int64_t record;      // id
  at::Tensor image;    // int64 [n]
  at::Tensor partner;  // int64 [n] the mix partner's image; the own where nothing is mixed
  at::Tensor share;    // float [n] share of the own image, 1 where nothing is mixed
};

// The last linear layer of the teacher; undefined for an ensemble or where labels are encoded without a teacher.
struct Head {
  at::Tensor weight, bias;  // float [K, D], [K] on the CPU
};

struct FitSample {
  int64_t classes;
  Head head;
  Answer answers;  // of all sampled rows, records one after the other; undefined unless needs().sample
  std::vector<RecordContext> contexts;  // of the sampled records
  Answer whole;  // of every image of the set, whole and unmixed, in order; undefined unless needs().whole
};

struct CodecNeeds {
  bool sample = false, whole = false, features = false;
};

struct Encoded {
  TensorMap rows;   // first dimension n
  at::Tensor blob;  // uint8 [bytes]; undefined where the codec writes none
};

class Codec {
 public:
  virtual ~Codec() = default;
  virtual CodecNeeds needs() const { return {}; }
  virtual TensorMap fit(const FitSample&) const { return {}; }
  virtual void bind(const TensorMap& basis, int64_t classes, const at::Device& device) = 0;
  virtual Encoded encode(const Answer& answer, const RecordContext& context) const = 0;
  virtual at::Tensor decode(const Encoded& record, const RecordContext& context) const = 0;
};

std::vector<std::string> codec_names();                      // one valid name per kind of codec
std::unique_ptr<Codec> make_codec(const std::string& name);  // throws E_CONFIG naming the known forms

// The tensor of a stored record; throws E_MISMATCH naming the codec unless it has this dtype and shape [n, width].
const at::Tensor& stored(const TensorMap& rows, const char* name, at::ScalarType dtype, int64_t width,
                         const char* codec);

}  // namespace lpld
