// Which kernels are in use and how many threads they get.
// Compiled with baseline flags: this file runs on every machine.
#include <pthread.h>
#include <string.h>

#include <atomic>
#include <initializer_list>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#ifdef _OPENMP
#include <omp.h>
#endif

namespace mnist100 {
namespace {

struct Features {
  bool v3 = false, v4 = false, v4_bf16 = false;
};

#if defined(__x86_64__)
constexpr bool all(unsigned reg, unsigned mask) { return (reg & mask) == mask; }

// cpuid says what the CPU can do, xgetbv what the OS saves on a context switch: both are needed.
Features detect() {
  Features found;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return found;
  const bool leaf1 = all(c, bit_FMA | bit_MOVBE | bit_F16C | bit_AVX);
  unsigned xcr0, high;
  __asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
  const bool os_ymm = all(xcr0, 0x06);  // SSE and AVX state
  const bool os_zmm = all(xcr0, 0xe6);  // and opmask, upper halves of zmm0-15, zmm16-31
  if (!__get_cpuid(0x80000001, &a, &b, &c, &d)) return found;
  const bool lzcnt = c & bit_LZCNT;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  const unsigned subleaves = a;
  found.v3 = leaf1 && os_ymm && lzcnt && all(b, bit_AVX2 | bit_BMI | bit_BMI2);
  found.v4 =
      found.v3 && os_zmm && all(b, bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL);
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
    found.v4_bf16 = found.v4 && (a & bit_AVX512BF16);
  return found;
}
#else
Features detect() { return {}; }
#endif

[[maybe_unused]] bool always() { return true; }
[[maybe_unused]] bool never() { return false; }

struct Isa {
  const Kernels<float>* kernels;
  bool (*supported)();  // asked only when it matters: a GPU takes a moment to answer
};

struct Registry {
  Isa isas[kMaxIsas];
  int count = 0;
  const Kernels<float>* best_of_cpu;
  std::atomic<const Kernels<float>*> active;

  Registry() {
    [[maybe_unused]] const Features cpu = detect();
    add(&baseline::table, always);
#ifdef MNIST100_HAVE_V3
    add(&v3::table, cpu.v3 ? always : never);
#endif
#ifdef MNIST100_HAVE_V4
    add(&v4::table, cpu.v4 ? always : never);
#endif
#ifdef MNIST100_HAVE_V4_BF16
    add(&v4_bf16::table, cpu.v4_bf16 ? always : never);
#endif
    best_of_cpu = best();
    active = best_of_cpu;
#ifdef MNIST100_HAVE_CUDA
    for (const Kernels<float>* table : {&cuda::table, &cuda::table_tf32, &cuda::table_bf16})
      add(table, cuda::available);
#endif
    add(&reference::table_float, always);
  }

  void add(const Kernels<float>* kernels, bool (*supported)()) { isas[count++] = {kernels, supported}; }

  // The last supported one of those added so far, from narrow to wide.
  const Kernels<float>* best() const {
    const Kernels<float>* found = nullptr;
    for (int i = 0; i < count; ++i)
      if (isas[i].supported()) found = isas[i].kernels;
    return found;
  }

  const Isa* find(const char* name) const {
    for (int i = 0; i < count; ++i)
      if (strcmp(isas[i].kernels->name, name) == 0) return &isas[i];
    return nullptr;
  }
};

Registry& registry() {
  static Registry instance;
  return instance;
}

std::atomic<int> thread_count{0};  // 0: not asked for yet
std::atomic<bool> forked_child{false};

int default_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

// Registered when the library is loaded, before any parallel region can have run.
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked_child.store(true); });

}  // namespace

template <>
const Kernels<float>& kernels<float>() {
  return *registry().active.load(std::memory_order_relaxed);
}

template <>
const Kernels<double>& kernels<double>() {
  return reference::table_double;
}

int isa_names(const char** names) {
  const Registry& all_isas = registry();
  for (int i = 0; i < all_isas.count; ++i) names[i] = all_isas.isas[i].kernels->name;
  return all_isas.count;
}

bool isa_supported(const char* name) {
  const Isa* isa = registry().find(name);
  return isa && isa->supported();
}

bool set_isa(const char* name) {
  if (!isa_supported(name)) return false;
  registry().active.store(registry().find(name)->kernels);
  return true;
}

const char* best_isa() { return registry().best_of_cpu->name; }

int num_threads() {
  if (forked_child.load(std::memory_order_relaxed)) return 1;
  const int n = thread_count.load(std::memory_order_relaxed);
  return n > 0 ? n : default_threads();
}

void set_num_threads(int n) { thread_count.store(n); }

bool has_openmp() {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}

const char* optimisation_flags() { return MNIST100_FLAGS; }

const char* compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

}  // namespace mnist100
