// liblpld_graph.so: LibTorch's CUDA graphs behind kernels/graph.h. A library of its own, because its headers come with a
// CUDA build of LibTorch only and the addon links nothing of CUDA; without it iterations are launched one by one.
// What a failed capture leaves behind is undone here. Sources: CUDA C++ programming guide, "Invalidation" (a broken capture
// holds its stream until cudaStreamEndCapture); ATen/cuda/CUDAGraph.h and CUDAGraph.cpp of LibTorch 2.11 to 2.14.
#include "kernels/graph.h"

#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>

namespace lpld {

namespace {

template <class F>
void quietly(const F& f) noexcept {
  try {
    f();
  } catch (const std::exception&) {  // LibTorch had done it already
  }
}

// A graph that can be given up wherever its capture stopped. LibTorch undoes what had succeeded, and how much else differs
// from version to version: each step below is one that a version may have left out, and does nothing where it did not.
class Capture final : public at::cuda::CUDAGraph {
 public:
  // Whether a call that CUDA forbids while capturing has broken the capture.
  bool is_broken() const {
    auto status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(capture_stream_.stream(), &status) == cudaSuccess &&
           status == cudaStreamCaptureStatusInvalidated;
  }

  // Afterwards the stream launches again, allocations go to the common pools and nothing is held for this graph.
  void abandon() noexcept {
    leave_capture_mode();
    if (graph_ != nullptr && !capture_ended_) {  // came out of the capture, and was refused before it was counted
      cudaGraphDestroy(graph_);
      graph_ = nullptr;
    }
    cudaGetLastError();  // it was reported; the next check of anything must not meet it again
    quietly([&] { reset(); });
    if (capture_dev_ < 0) return;  // refused before anything began
    // What follows is skipped by LibTorch up to 2.13 when a capture fails. The allocators ask a filter that holds `this`.
    auto* device = c10::cuda::CUDACachingAllocator::get();
    auto* host = at::getHostAllocator(at::kCUDA);
    quietly([&] { device->endAllocateToPool(capture_dev_, mempool_id_); });
    quietly([&] { host->end_allocate_to_pool(mempool_id_); });
    quietly([&] {
      if (device->getPoolUseCount(capture_dev_, mempool_id_) == 0) return;
      device->releasePool(capture_dev_, mempool_id_);
      host->release_pool(mempool_id_);
    });
  }

 private:
  void leave_capture_mode() noexcept {
    auto status = cudaStreamCaptureStatusNone;
    const cudaStream_t stream = capture_stream_.stream();
    if (cudaStreamIsCapturing(stream, &status) != cudaSuccess || status == cudaStreamCaptureStatusNone) return;
    cudaGraph_t part = nullptr;
    cudaStreamEndCapture(stream, &part);
    if (part != nullptr) cudaGraphDestroy(part);
    quietly([&] { end_mark(c10::cuda::CUDACachingAllocator::get()); });
  }
  // The allocator counts captures from LibTorch 2.13 on.
  template <class Allocator>
  void end_mark(Allocator* allocator) {
    if constexpr (requires { allocator->markCaptureEnd(capture_dev_); }) allocator->markCaptureEnd(capture_dev_);
  }
};

std::string first_line(const std::exception& error) {
  const auto* known = dynamic_cast<const c10::Error*>(&error);
  const std::string message = known != nullptr ? known->what_without_backtrace() : error.what();
  return message.substr(0, message.find('\n'));
}

class CapturedGraph final : public Graph {
 public:
  std::string capture(const std::function<void()>& body) override {
    // Blocks cached by the warm-up cannot be given back once capturing has begun.
    c10::cuda::CUDACachingAllocator::emptyCache();
    bool inside = false;
    try {
      // Thread-local: other threads of the process may use CUDA while this one captures.
      graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
      inside = true;
      body();
      inside = false;
      graph_.capture_end();
      return {};
    } catch (const std::exception& error) {
      const bool own = inside && !graph_.is_broken();  // the body's own error, memory for one
      if (own) quietly([&] { graph_.capture_end(); });
      graph_.abandon();
      if (own) throw;
      return first_line(error);
    }
  }
  void replay() override { graph_.replay(); }

 private:
  Capture graph_;
};

}  // namespace

}  // namespace lpld

extern "C" __attribute__((visibility("default"))) lpld::Graph* lpld_graph_v2() { return new lpld::CapturedGraph; }
