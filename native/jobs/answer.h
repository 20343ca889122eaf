#pragma once
// answer: what one teacher or several say to replayed batches. A batch may be a mixture of two classes: the teacher is
// asked about the mixture, so nothing is mixed in label space (methods 4.1). Teachers are frozen.
#include <memory>
#include <vector>

#include "codecs/codec.h"
#include "core/device.h"
#include "core/job.h"
#include "data/recipes.h"
#include "models/model.h"

namespace lpld {

// How several teachers become one answer (G-VBSM; methods/frontier.md 1.2):
//   Mean      mean of the logits
//   NormMean  each teacher's logits divided by their Frobenius norm over the batch and multiplied by the mean of the norms
enum class Ensemble { Mean, NormMean };

// What BatchNorm of a teacher normalises with: its running statistics, or those of the batch (methods 1.3), which moves none.
enum class TeacherMode { Eval, Train };

// Some teachers made ready once per job.
class Teachers {
 public:
  Teachers(std::vector<std::shared_ptr<Model>> models, Ensemble ensemble, TeacherMode mode, const Execution& execution);
  // x [B, C, P, P] on the device -> logits [B, K], and features [B, D] where asked; float on the CPU.
  Answer answer(const at::Tensor& x, bool features) const;
  const std::string& device() const { return models_.front()->options.device; }
  int64_t classes() const { return models_.front()->options.num_classes; }
  Head head() const;  // undefined for several

 private:
  std::vector<std::shared_ptr<Model>> models_;
  Ensemble ensemble_;
  std::vector<Pass> passes_;
};

struct AnswerSpec {
  Execution execution;
  Recipes recipes;
  InputSpec input;
  Ensemble ensemble;
  TeacherMode mode;
  bool features;  // E_CONFIG for several teachers
};

// Logits [M, K] and features [M, D] of every row.
Answer answer(const std::vector<std::shared_ptr<Model>>& models, const ImageStore& store, const AnswerSpec& spec,
              const JobContext& job);

}  // namespace lpld
