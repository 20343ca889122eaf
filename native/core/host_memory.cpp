#include "core/host_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <unordered_map>

#include "core/aten.h"

namespace lpld {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLeast = size_t{128} << 10;  // smaller ones glibc keeps by itself
constexpr size_t kSpare = size_t{64} << 20;   // may be kept besides, however little is in use
constexpr size_t kGrain = size_t{64} << 10;   // sizes are whole multiples; what is beyond a huge page takes small ones

struct Block {
  void* data;
  size_t size;
};

// A mapping whose address is a multiple of a huge page, or null.
void* map(size_t size) {
  const size_t whole = size + kHugePage;
  void* raw = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<uintptr_t>(raw), data = (begin + kHugePage - 1) & ~(kHugePage - 1);
  if (data > begin) munmap(raw, data - begin);
  if (begin + whole > data + size) munmap(reinterpret_cast<void*>(data + size), begin + whole - data - size);
  madvise(reinterpret_cast<void*>(data), size, MADV_HUGEPAGE);  // advice: refused where the kernel has none
  return reinterpret_cast<void*>(data);
}

class HostAllocator final : public c10::Allocator {
 public:
  static HostAllocator& get() {
    static auto* allocator = new HostAllocator;  // never destroyed: tensors of static life outlive it
    return *allocator;
  }

  c10::DataPtr allocate(size_t n) override {
    void* data = n < kLeast ? plain_->raw_allocate(n) : take((n + kGrain - 1) / kGrain * kGrain);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }

  void keep() {
    const std::lock_guard lock(mutex_);
    keeps_ = true;
  }
  void settle() {
    const std::lock_guard lock(mutex_);
    drop_to(most_);
    most_ = used_;
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    drop_to(0);
    most_ = used_;
    keeps_ = false;
  }
  HostMemory report() {
    const std::lock_guard lock(mutex_);
    return {int64_t(used_), int64_t(kept_bytes_), fresh_, reused_};
  }

 private:
  static void release(void* data) { get().give(data); }

  void* take(size_t size) {
    const std::lock_guard lock(mutex_);
    auto best = kept_.end();
    for (auto it = kept_.begin(); it != kept_.end(); ++it)
      if (it->size >= size && it->size - size <= size / 4 && (best == kept_.end() || it->size < best->size)) best = it;
    Block block{nullptr, size};
    if (best != kept_.end()) {
      block = *best;
      kept_bytes_ -= block.size;
      kept_.erase(best);
      ++reused_;
    } else {
      const size_t most = std::max(most_, used_ + size), limit = most + std::max(most / 4, kSpare);
      drop_to(limit - std::min(limit, used_ + size));
      block.data = make(size);
      ++fresh_;
    }
    owned_.emplace(block.data, block.size);
    used_ += block.size;
    most_ = std::max(most_, used_);
    return block.data;
  }

  void* make(size_t size) {
    if (size < kHugePage) return plain_->raw_allocate(size);
    void* data = map(size);
    if (data == nullptr) {
      drop_to(0);
      data = map(size);
    }
    // The words by which LibTorch's own allocator says so (core/device.cpp, translate).
    TORCH_CHECK(data != nullptr, "host memory: can't allocate memory: you tried to allocate ", size, " bytes.");
    return data;
  }

  void give(void* data) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = owned_.find(data); found != owned_.end()) {
        kept_.push_back({data, found->second});
        kept_bytes_ += found->second;
        used_ -= found->second;
        owned_.erase(found);
        if (!keeps_) drop_to(0);
        return;
      }
    }
    plain_->raw_deallocate(data);
  }

  // Gives back the blocks that were freed longest ago until at most so many bytes are kept.
  void drop_to(size_t bytes) {
    while (kept_bytes_ > bytes) {
      const Block& block = kept_.front();
      if (block.size < kHugePage)
        plain_->raw_deallocate(block.data);
      else
        munmap(block.data, block.size);
      kept_bytes_ -= block.size;
      kept_.pop_front();
    }
  }

  c10::Allocator* const plain_ = c10::GetDefaultCPUAllocator();
  std::mutex mutex_;
  std::list<Block> kept_;                        // in the order they were freed
  std::unordered_map<void*, size_t> owned_;      // in use
  size_t used_ = 0, kept_bytes_ = 0, most_ = 0;  // most_: in use since the last job's end
  int64_t fresh_ = 0, reused_ = 0;
  bool keeps_ = false;
};
}  // namespace

void install_host_memory() {
#ifndef __SANITIZE_ADDRESS__  // which watches the blocks of malloc only
  static const bool once = [] {
    c10::SetCPUAllocator(&HostAllocator::get(), /*priority*/ 1);
    return true;
  }();
  (void)once;
#endif
}

void keep_host_memory() { HostAllocator::get().keep(); }
void settle_host_memory() { HostAllocator::get().settle(); }
void release_host_memory() { HostAllocator::get().clear(); }
HostMemory host_memory() { return HostAllocator::get().report(); }

}  // namespace lpld
