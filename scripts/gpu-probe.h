#pragma once
// The two sides of scripts/gpu-probe.cpp: memory where a library's kernels work, and numbers drawn alike for both.
#if defined(LPLD_PROBE_CUDA)
#include <cuda_runtime.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/table.h"

namespace {

using lpld::KernelTable;

std::string g_case;  // being run

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "probe: %s%s%s\n", g_case.c_str(), g_case.empty() ? "" : ": ", why.c_str());
  std::exit(4);
}

void check([[maybe_unused]] int status, const char* what) {
  if (status == 0) return;
#if defined(LPLD_PROBE_CUDA)
  fail(std::string(what) + ": " + cudaGetErrorString(cudaError_t(status)));
#else
  fail(std::string(what) + ": error " + std::to_string(status));
#endif
}

// Memory where a table's kernels work.
class Memory {
 public:
  explicit Memory(bool host) : host_(host) {}
  void* get(size_t bytes, const void* from, int fill) {
    void* p = nullptr;
    if (host_) {
      p = std::malloc(bytes);
      from != nullptr ? std::memcpy(p, from, bytes) : std::memset(p, fill, bytes);
      held_.emplace_back(p, std::free);
      return p;
    }
#if defined(LPLD_PROBE_CUDA)
    check(cudaMalloc(&p, bytes), "cudaMalloc");
    held_.emplace_back(p, [](void* q) { cudaFree(q); });
    check(from != nullptr ? cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice) : cudaMemset(p, fill, bytes), "fill");
#endif
    return p;
  }
  void read(void* to, const void* from, size_t bytes) const {
    if (host_) {
      std::memcpy(to, from, bytes);
      return;
    }
#if defined(LPLD_PROBE_CUDA)
    check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "what a kernel computed");
#endif
  }

 private:
  bool host_;
  std::vector<std::unique_ptr<void, void (*)(void*)>> held_;
};

// One side of a case: buffers by name of use, and what is compared at the end.
class Side {
 public:
  Side(const KernelTable& table, int fill) : table(table), memory_(table.host), fill_(fill) {}
  template <class T>
  T* in(const std::vector<T>& values) {
    return static_cast<T*>(memory_.get(values.size() * sizeof(T), values.data(), 0));
  }
  template <class T>
  T* in_place(const std::vector<T>& values) {
    return compared(in(values), values.size());
  }
  template <class T>
  T* out(size_t count) {
    return compared(static_cast<T*>(memory_.get(count * sizeof(T), nullptr, fill_)), count);
  }
  template <class T>
  T* scratch(size_t count) {
    return static_cast<T*>(memory_.get(count * sizeof(T), nullptr, fill_));
  }
  std::vector<std::vector<unsigned char>> results() const {
    std::vector<std::vector<unsigned char>> out;
    for (const auto& [at, bytes] : compared_) {
      out.emplace_back(bytes);
      memory_.read(out.back().data(), at, bytes);
    }
    return out;
  }
  const KernelTable& table;

 private:
  template <class T>
  T* compared(T* at, size_t count) {
    compared_.emplace_back(at, count * sizeof(T));
    return at;
  }
  Memory memory_;
  int fill_;
  std::vector<std::pair<void*, size_t>> compared_;
};

// ---- Inputs

uint32_t g_state = 1;
uint32_t draw() { return g_state = g_state * 1664525u + 1013904223u; }
int64_t below(int64_t n) { return int64_t((uint64_t(draw()) * uint64_t(n)) >> 32); }

std::vector<float> floats(int64_t count, float low = -2, float high = 2) {
  std::vector<float> out(count);
  for (float& v : out) v = low + (high - low) * float(draw() >> 8) * 0x1p-24f;
  return out;
}
std::vector<double> doubles(int64_t count, float low = -2, float high = 2) {
  const std::vector<float> from = floats(count, low, high);
  return {from.begin(), from.end()};
}
std::vector<uint16_t> halves(int64_t count) {  // bfloat16
  std::vector<uint16_t> out(count);
  const std::vector<float> from = floats(count);
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, &from[i], 4);
    out[i] = uint16_t(bits >> 16);
  }
  return out;
}

}  // namespace
