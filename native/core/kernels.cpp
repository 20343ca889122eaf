// Opens the libraries that come beside the addon where they were built: liblpld_kernels.so with its table of kernels and
// liblpld_graph.so around LibTorch's CUDA graphs. Both are kept for the life of the process.
#include "core/kernels.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <atomic>
#include <unordered_map>

#include "kernels/graph.h"

namespace lpld {

namespace {
std::atomic<const KernelTable*> g_kernels{nullptr};
std::atomic<decltype(&lpld_graph_v2)> g_graph{nullptr};
thread_local int t_without_kernels = 0;

template <class Entry>
Entry entry_of(const std::string& path, const char* symbol, const char* what) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) throw Error(Code::Device, text("cannot open the ", what, ": ", dlerror()), "kernels");
  auto* entry = reinterpret_cast<Entry>(dlsym(library, symbol));
  if (entry == nullptr) throw Error(Code::Device, text("no ", symbol, " in ", path), "kernels");
  return entry;
}
}  // namespace

void load_kernels(const std::string& path) {
  if (g_kernels == nullptr) g_kernels = entry_of<decltype(&lpld_kernels_v2)>(path, "lpld_kernels_v2", "CUDA kernels")();
}
void load_graph(const std::string& path) {
  if (g_graph == nullptr) g_graph = entry_of<decltype(&lpld_graph_v2)>(path, "lpld_graph_v2", "CUDA graph library");
}

bool kernels_loaded() { return g_kernels != nullptr; }
bool graph_loaded() { return g_graph != nullptr; }

std::unique_ptr<Graph> make_graph() {
  const auto make = g_graph.load();
  return std::unique_ptr<Graph>(make != nullptr ? make() : nullptr);
}

const KernelTable* kernels_for(const at::Tensor& tensor) {
  const KernelTable* table = t_without_kernels > 0 ? nullptr : g_kernels.load();
  if (table == nullptr || !(table->host ? tensor.is_cpu() : tensor.is_cuda())) return nullptr;
  return table;
}

WithoutKernels::WithoutKernels() { ++t_without_kernels; }
WithoutKernels::~WithoutKernels() { --t_without_kernels; }

c10::Stream side_stream(const at::Device& device) {
  thread_local std::unordered_map<int, c10::Stream> streams;
  auto found = streams.find(device.index());
  if (found == streams.end()) {
    const c10::impl::VirtualGuardImpl cuda(device.type());
    found = streams.emplace(device.index(), cuda.getStreamFromGlobalPool(device)).first;
  }
  return found->second;
}

DeviceMemory device_memory(const std::string& device) {
  check_device(device);
  const KernelTable* table = g_kernels;
  DeviceMemory memory{0, 0};
  if (table == nullptr || device == "cpu") return memory;
  const int status = table->device_memory(std::stoi(device.substr(5)), &memory.free, &memory.total);
  if (status != 0) throw Error(Code::Device, text("cannot ask ", device, " for its memory: error ", status), "kernels");
  return memory;
}

void* stream_of(const at::Tensor& tensor) {
  if (!tensor.is_cuda()) return nullptr;
  return c10::impl::VirtualGuardImpl(tensor.device().type()).getStream(tensor.device()).native_handle();
}

}  // namespace lpld
