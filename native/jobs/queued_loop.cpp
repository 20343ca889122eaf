#include "jobs/queued_loop.h"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <thread>

#include "core/aten.h"
#include "core/kernels.h"
#include "kernels/graph.h"

namespace lpld {

namespace {

constexpr int64_t kWarmUp = 3;   // iterations before a capture: cuDNN chooses its algorithms, the allocator fills
constexpr int64_t kWorthIt = 4;  // segments of fewer times the warm-up are launched one by one
constexpr int64_t kAtATime = 8;  // iterations launched between two looks at an event
constexpr auto kPause = std::chrono::microseconds(100);

// The losses of an iteration on their way to the host, and the event after which they are there.
class Milestone {
 public:
  Milestone(const at::Tensor& losses, const c10::Stream& stream)
      : stream_(stream),
        arrived_(at::empty({2, losses.size(1)}, losses.options().device(at::kCPU).pinned_memory(true))),
        event_(stream.device_type()) {}

  void set(const SynthesisSegment& segment, int64_t done) {
    done_ = done;
    arrived_[0].copy_(segment.loss_ce()[done - 1], /*non_blocking=*/true);
    arrived_[1].copy_(segment.loss_bn()[done - 1], /*non_blocking=*/true);
    event_.record(stream_);
  }
  bool reached() const { return event_.query(); }
  int64_t done() const { return done_; }
  double loss(const SynthesisSegment& segment) const { return segment.mean_loss(arrived_[0], arrived_[1]); }

 private:
  c10::Stream stream_;
  at::Tensor arrived_;  // double [2, G], pinned
  c10::Event event_;
  int64_t done_ = 0;
};

// Nothing of the segment is given back while the device may still use it, however the loop is left.
struct Drain {
  c10::Stream stream;
  ~Drain() {
    try {
      stream.synchronize();
    } catch (const c10::Error&) {  // the error that left the loop is the one to hear of
    }
  }
};

}  // namespace

std::string run_queued(SynthesisSegment& segment, int64_t steps, const std::function<void()>& iterate, bool graph,
                       const JobContext& job) {
  const at::Device device = segment.x().device();
  const c10::impl::VirtualGuardImpl cuda(device.type());
  cuda.getStream(device).synchronize();  // what the segment was made of is there
  const c10::Stream stream = side_stream(device);
  const c10::StreamGuard on(stream);
  std::unique_ptr<Graph> captured = graph && steps >= kWorthIt * kWarmUp ? make_graph() : nullptr;
  const Drain drain{stream};  // before the graph and its memory go
  job.step(0, steps);

  std::string refused;
  if (captured != nullptr) {
    for (int64_t i = 0; i < kWarmUp; ++i) iterate();
    segment.rewind();
    stream.synchronize();
    refused = captured->capture(iterate);
    if (!refused.empty()) captured = nullptr;
  }
  Milestone first(segment.loss_ce(), stream), second(segment.loss_ce(), stream);
  Milestone *latest = &first, *before = &second;
  int64_t reached = 0;
  double loss = std::nan("");
  for (int64_t done = 0; done < steps;) {
    const int64_t next = std::min(done + kAtATime, steps);
    for (; done < next; ++done) captured != nullptr ? captured->replay() : iterate();
    latest->set(segment, done);
    // The device has at least the latest iterations to do while the host waits for those before them.
    std::swap(latest, before);
    if (latest->done() == 0) continue;
    while (!latest->reached()) {
      job.step(reached, steps, loss);
      std::this_thread::sleep_for(kPause);
    }
    reached = latest->done();
    loss = latest->loss(segment);
    job.step(reached, steps, loss);
  }
  stream.synchronize();
  return refused;
}

}  // namespace lpld
