#include "ops/soft_kl.h"

#include "core/aten.h"

namespace lpld {

at::Tensor soft_kl(const at::Tensor& student, const at::Tensor& teacher, double temperature, double scale) {
  LPLD_CHECK(student.dim() == 2 && student.sizes() == teacher.sizes() && temperature > 0, Internal,
             "soft_kl: expected two [B, K] tensors and T > 0, received ", student.sizes(), ", ", teacher.sizes(),
             ", T ", temperature);
  const at::Tensor log_q = at::log_softmax(teacher / temperature, 1);  // [B, K]
  const at::Tensor log_p = at::log_softmax(student / temperature, 1);  // [B, K]
  return at::sum(log_q.exp() * (log_q - log_p)) * (scale / double(student.size(0)));
}

}  // namespace lpld
