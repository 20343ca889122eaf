#pragma once
// What a running job may ask of the outside: whether to stop, and to be heard. Knows nothing of Node.
#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>

#include "core/error.h"

namespace lpld {

struct Progress {
  int64_t done = 0;
  int64_t total = 0;
  double loss = std::numeric_limits<double>::quiet_NaN();
};

class JobContext {
 public:
  JobContext(const std::atomic<bool>& cancel, std::function<void(const Progress&)> report)
      : cancel_(cancel), report_(std::move(report)) {}

  // Called before every step: reports, and throws E_CANCELLED once a cancel was asked for.
  void step(int64_t done, int64_t total, double loss = std::numeric_limits<double>::quiet_NaN()) const {
    if (cancel_.load(std::memory_order_relaxed))
      throw Error(Code::Cancelled, text("cancelled before step ", done + 1, " of ", total));
    report_({done, total, loss});
  }

  // Called after the last step, so that a segment of one step is heard with its loss too.
  void finished(int64_t total, double loss) const { report_({total, total, loss}); }

 private:
  const std::atomic<bool>& cancel_;
  std::function<void(const Progress&)> report_;
};

}  // namespace lpld
