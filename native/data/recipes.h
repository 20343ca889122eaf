#pragma once
// Recipes applied: from stored pixels to network input, in one place for the teacher and for the student, so
// that the student sees exactly the pixels the teacher labelled. All arithmetic up to normalisation is on
// uint8.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "data/image_store.h"

namespace lpld {

enum class MixKind : uint8_t { None = 0, CutMix = 1, Mixup = 2 };

// S batches as rows; every field has M rows, offset has S + 1. See src/native.ts.
struct Recipes {
  at::Tensor offset, index, crop, flip, cutout, cutout_color, mix_kind, mix_index, mix_box, lambda;
  int64_t steps() const;
  int64_t begin(int64_t step) const;
  int64_t end(int64_t step) const;
  // Throws E_DATA unless every field has its rows, every batch at least one, and partners lie inside their batch.
  void check_rows() const;
  // The same, and that every row points inside the store, with boxes inside P x P.
  void check(const ImageStore& store, int64_t size) const;
};

struct InputSpec {
  int64_t size;          // P
  at::Tensor normalize;  // float [C, 256]
};

// A running 64-bit FNV-1a hash over uint8 pixels and mix fields: the replay test's fingerprint.
class PixelHash {
 public:
  void add(const void* bytes, size_t count);
  std::string hex() const;

 private:
  uint64_t state_ = 0xcbf29ce484222325ull;
};

struct Batch {
  at::Tensor pixels;          // uint8 [B, P, P, C], cropped, flipped, cut out, CutMix pasted
  at::Tensor labels;          // int64 [B] class ids of the rows
  at::Tensor partner_labels;  // int64 [B] class ids of the mix partners
  at::Tensor own_share;       // float [B] lambda
};
Batch render_batch(const ImageStore& store, const Recipes& recipes, int64_t step, int64_t size, PixelHash* hash);

// float [B, C, P, P] channels-last on `device`, mixup applied; from a Batch of the same step.
at::Tensor network_input(const Batch& batch, const Recipes& recipes, int64_t step, const InputSpec& input,
                         const std::string& device);

}  // namespace lpld
