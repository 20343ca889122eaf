// Opens liblpld_kernels.so and keeps its table for the life of the process.
#include <dlfcn.h>

#include <atomic>

#include "core/device.h"
#include "core/error.h"
#include "kernels/table.h"

namespace lpld {

namespace {
std::atomic<const KernelTable*> g_kernels{nullptr};
}

void load_kernels(const std::string& path) {
  if (g_kernels != nullptr) return;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) throw Error(Code::Device, text("cannot open the CUDA kernels: ", dlerror()), "kernels");
  auto* entry = reinterpret_cast<decltype(&lpld_kernels_v1)>(dlsym(library, "lpld_kernels_v1"));
  if (entry == nullptr) throw Error(Code::Device, text("no lpld_kernels_v1 in ", path), "kernels");
  g_kernels = entry();
}

const KernelTable* kernels() { return g_kernels; }
bool kernels_loaded() { return g_kernels != nullptr; }

}  // namespace lpld
