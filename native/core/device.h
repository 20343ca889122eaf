#pragma once
// Devices, process-wide LibTorch settings, and the translation of LibTorch's exceptions. Light: no ATen here, so that
// binding/ may include it.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace lpld {

enum class Precision { Fp32, Tf32, Bf16 };
Precision parse_precision(const std::string& name);  // throws E_INTERNAL

// How a job computes. Everything global it depends on is set from here when it starts, never inherited.
struct Execution {
  Precision precision;
  int64_t threads;
  bool deterministic;
};
void apply(const Execution& execution);  // on the engine thread
// Ends the idle OpenMP workers of the calling thread, outside parallel regions; its next parallel op makes new ones. Where a
// process has more workers than cores they sleep between parallel regions in place of spinning, those of other threads too: a
// job of small steps takes half as long again (measured: a ConvNet 32-32-32 on 50 images of 28 px, two cores, 8.1 against 5.3
// ms a step). GNU's OpenMP, LibTorch's own, does so; another may keep them.
void release_idle_threads();

struct CudaDevice {
  std::string name;
  int64_t memory;  // bytes, 0 where unknown
};
struct CudaReport {
  bool available;
  std::vector<CudaDevice> devices;
  std::string reason;  // why not, or ""
};
CudaReport cuda_report();

// Bytes of a CUDA device, free ones as of now; both 0 where our kernels' library, which asks, is not loaded. Throws as
// check_device, and E_DEVICE where the device cannot be asked.
struct DeviceMemory {
  int64_t free, total;
};
DeviceMemory device_memory(const std::string& device);

// Throws E_CONFIG unless `device` is cpu or cuda:N, E_DEVICE for a CUDA device that cannot be used.
void check_device(const std::string& device);

// What the CPU has and the system saves when it switches threads (of AMX: only what the CPU has).
struct CpuFeatures {
  bool avx512, avx512_bf16, amx_bf16;
};
CpuFeatures cpu_features();

std::string compiled_version();  // of the headers, e.g. 2.13.0
std::string runtime_version();   // major.minor of the LibTorch in the process
void check_runtime_version();    // throws E_DEVICE (libtorch-mismatch)

// The CUDA kernels' own library, without which CUDA tensors use ATen bodies (core/kernels.h), and the one around LibTorch's
// CUDA graphs, without which iterations are launched one by one. Throw E_DEVICE where it cannot be opened.
void load_kernels(const std::string& path);
void load_graph(const std::string& path);
bool kernels_loaded();
bool graph_loaded();
class Graph;
std::unique_ptr<Graph> make_graph();  // kernels/graph.h; null unless loaded

// Runs f; whatever LibTorch throws becomes lpld::Error (out of memory: E_DEVICE, all else E_INTERNAL).
void translate(const std::function<void()>& f);

}  // namespace lpld
