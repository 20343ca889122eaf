// liblpld_graph.so: LibTorch's CUDA graphs behind kernels/graph.h. A library of its own, because its headers come with a
// CUDA build of LibTorch only and the addon links nothing of CUDA; without it iterations are launched one by one.
#include "kernels/graph.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>

namespace lpld {

namespace {

class CapturedGraph final : public Graph {
 public:
  void capture(const std::function<void()>& body) override {
    // Blocks cached by the warm-up cannot be given back once capturing has begun.
    c10::cuda::CUDACachingAllocator::emptyCache();
    // Thread-local: other threads of the process may use CUDA while this one captures.
    graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      body();
    } catch (const std::exception&) {
      abandon();
      throw;
    }
    graph_.capture_end();
  }
  void replay() override { graph_.replay(); }

 private:
  // Leaves capture mode, so that the stream can be used again; the error of the body is the one that counts.
  void abandon() {
    try {
      graph_.capture_end();
    } catch (const c10::Error&) {
    }
  }
  at::cuda::CUDAGraph graph_;
};

}  // namespace

}  // namespace lpld

extern "C" __attribute__((visibility("default"))) lpld::Graph* lpld_graph_v1() { return new lpld::CapturedGraph; }
