#include "core/device.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <cpuid.h>
#include <omp.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/version.h>

#include "core/aten.h"

namespace lpld {

namespace {
// c10 messages carry a dispatcher dump of kilobytes; the first paragraph is what a user needs.
std::string first_paragraph(const c10::Error& e) {
  std::string message = e.what_without_backtrace();
  if (auto end = message.find("\n\n"); end != std::string::npos) message.resize(end);
  return message;
}
// LibTorch's CPU allocator and the CUDA libraries beside its own allocator report exhaustion as plain errors.
bool says_exhausted(const std::string& message) {
  for (const char* words :
       {"can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED", "DEVICE_ALLOCATION_FAILED"})
    if (message.find(words) != std::string::npos) return true;
  return false;
}
}  // namespace

Precision parse_precision(const std::string& name) {
  if (name == "fp32") return Precision::Fp32;
  if (name == "tf32") return Precision::Tf32;
  LPLD_CHECK(name == "bf16", Internal, "expected fp32, tf32 or bf16 for precision, received ", name);
  return Precision::Bf16;
}

void apply(const Execution& execution) {
  at::set_num_threads(static_cast<int>(execution.threads));
  auto& context = at::globalContext();
  // QUIRK(tf32): upstream leaves PyTorch's default, TF32 convolutions; changed: only where the config asks for it.
  const bool tf32 = execution.precision == Precision::Tf32;
  context.setAllowTF32CuDNN(tf32);
  context.setAllowTF32CuBLAS(tf32);
  context.setBenchmarkCuDNN(!execution.deterministic);
  context.setDeterministicCuDNN(execution.deterministic);
  context.setDeterministicAlgorithms(execution.deterministic, /*warn_only=*/true);
  c10::GradMode::set_enabled(false);
}

void release_idle_threads() { omp_pause_resource_all(omp_pause_soft); }

CudaReport cuda_report() {
  CudaReport report{false, {}, {}};
  const auto& hooks = at::detail::getCUDAHooks();
  if (!hooks.hasCUDART()) {
    report.reason = "this LibTorch is a CPU build, or its CUDA libraries were not loaded";
    return report;
  }
  try {
    const int count = hooks.deviceCount();
    for (int i = 0; i < count; ++i) report.devices.push_back({text("cuda:", i), 0});
    report.available = count > 0;
    if (count == 0) report.reason = "the CUDA runtime found no device (no GPU, or no driver)";
  } catch (const c10::Error& e) {
    report.reason = first_paragraph(e);
  }
  return report;
}

void check_device(const std::string& device) {
  if (device == "cpu") return;
  const bool cuda = device.starts_with("cuda:") && device.size() > 5 && device.size() < 9 &&
                    device.find_first_not_of("0123456789", 5) == std::string::npos;
  LPLD_CHECK(cuda, Config, "expected cpu or cuda:N for device but received \"", device, "\"");
  const CudaReport report = cuda_report();
  const size_t number = std::stoul(device.substr(5));
  if (number < report.devices.size()) return;
  throw Error(Code::Device,
              text("expected a usable CUDA device for device but received ", device, ": ",
                   report.available ? text("there are ", report.devices.size()) : report.reason),
              "no-cuda");
}

CpuFeatures cpu_features() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  CpuFeatures features{false, false, false};
  features.avx512 = __builtin_cpu_supports("avx512f") != 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) features.amx_bf16 = (d >> 22) & 1;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) features.avx512_bf16 = features.avx512 && ((a >> 5) & 1);
  return features;
}

std::string compiled_version() { return TORCH_VERSION; }

std::string runtime_version() {
  const uint64_t version = aoti_torch_abi_version();  // major << 56 | minor << 48 | patch << 40
  return text(version >> 56, '.', (version >> 48) & 0xff);
}

void check_runtime_version() {
  const std::string built = text(TORCH_VERSION_MAJOR, '.', TORCH_VERSION_MINOR);
  if (built != runtime_version())
    throw Error(Code::Device, text("expected LibTorch ", built, " in the process, received ", runtime_version()),
                "libtorch-mismatch");
}

void translate(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error&) {
    throw;
  } catch (const c10::OutOfMemoryError& e) {
    throw Error(Code::Device, first_paragraph(e), "memory");
  } catch (const c10::Error& e) {
    const std::string message = first_paragraph(e);
    if (says_exhausted(message)) throw Error(Code::Device, message, "memory");
    throw Error(Code::Internal, message);
  } catch (const std::bad_alloc&) {
    throw Error(Code::Device, "host memory is exhausted", "memory");
  } catch (const std::exception& e) {
    throw Error(Code::Internal, e.what());
  }
}

}  // namespace lpld
