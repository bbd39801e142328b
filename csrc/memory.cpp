// Memory for arrays and for kernels' scratch. Freed blocks are kept for the next array of their size: a
// loop over fixed shapes, training above all, asks the system for memory in its first round only.
// (A fresh 8 MB block costs 2,000 page faults, more time than the kernel that fills it.)
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels.h"

namespace mnist100 {
namespace {

constexpr size_t kAlignment = 64;        // a cache line, and a 512-bit vector
constexpr size_t kHugePage = 2u << 20;   // of Linux on x86-64 and (mostly) aarch64
constexpr size_t kHugeFrom = 4u << 20;   // blocks that ask for huge pages: half a page is wasted at most
constexpr size_t kKeepFrom = 16u << 10;  // below this malloc's own caches are as fast
// A training step of this network at batch 1024 holds 130 MB; columns of its second layer are 58 MB at 256.
constexpr size_t kKeepMost = 256u << 20;
constexpr size_t kKeepCount = 256;  // a search of all takes less than a microsecond

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kRecycle = false;  // so that a use after free is seen
#else
constexpr bool kRecycle = true;
#endif

// In front of every block, filling one cache line.
struct alignas(kAlignment) Header {
  void* start;
  size_t bytes;
};
static_assert(sizeof(Header) == kAlignment);

Header* header_of(void* block) { return static_cast<Header*>(block) - 1; }

std::atomic<int64_t> taken{0};

void* fresh(size_t bytes) {
  const bool huge = bytes >= kHugeFrom;
  const size_t alignment = huge ? kHugePage : kAlignment;
  const size_t total = (bytes + sizeof(Header) + alignment - 1) / alignment * alignment;
  void* start = aligned_alloc(alignment, total);
  if (!start) throw OutOfMemory(total);
  if (bytes >= kKeepFrom) ++taken;
#if defined(__linux__)
  if (huge) madvise(start, total, MADV_HUGEPAGE);  // advice: failure changes nothing
#endif
  // Not what the rounding adds: those pages are never touched.
  Header* header = new (start) Header{start, bytes};
  return header + 1;
}

void drop(void* block) { free(header_of(block)->start); }

class Pool {
 public:
  // A kept block that holds `bytes` without wasting more than an eighth, or null. Latest first: it is
  // the likeliest to be in cache.
  void* take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = kept_.size(); i-- > 0;) {
      const size_t size = header_of(kept_[i])->bytes;
      if (size < bytes || size - bytes > size / 8 + kAlignment) continue;
      void* block = kept_[i];
      kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(i));
      total_ -= size;
      return block;
    }
    return nullptr;
  }

  void keep(void* block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    total_ += header_of(block)->bytes;
    kept_.push_back(block);
    size_t oldest = 0;
    for (; total_ > kKeepMost || kept_.size() - oldest > kKeepCount; ++oldest) {
      total_ -= header_of(kept_[oldest])->bytes;
      drop(kept_[oldest]);
    }
    kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(oldest));
  }

 private:
  std::mutex mutex_;
  std::vector<void*> kept_;  // oldest first
  size_t total_ = 0;
};

Pool& pool() {
  static Pool& instance = *new Pool;  // never destroyed: arrays may outlive static objects
  return instance;
}

struct Scratch {
  void* block = nullptr;
  size_t bytes = 0;
  ~Scratch() { free(block); }
};

thread_local Scratch thread_scratch;

}  // namespace

OutOfMemory::OutOfMemory(size_t bytes, const char* of) {
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  snprintf(text_, sizeof text_, "unable to allocate %.3g GiB%s", static_cast<double>(bytes) / kGiB, of);
}

const char* OutOfMemory::what() const noexcept { return text_; }

void* acquire(size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw OutOfMemory(bytes);
  if (kRecycle && bytes >= kKeepFrom)
    if (void* block = pool().take(bytes)) return block;
  return fresh(bytes);
}

void release(void* block) {
  if (kRecycle && header_of(block)->bytes >= kKeepFrom)
    pool().keep(block);
  else
    drop(block);
}

int64_t blocks_taken() { return taken.load(); }

void* scratch(size_t bytes) {
  Scratch& own = thread_scratch;
  if (own.bytes < bytes) {
    free(own.block);
    own.bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    own.block = aligned_alloc(kAlignment, own.bytes);
    ++taken;
    if (!own.block) throw OutOfMemory(std::exchange(own.bytes, 0));
  }
  return own.block;
}

}  // namespace mnist100
