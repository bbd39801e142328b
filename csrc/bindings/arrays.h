// NumPy arrays in and out of kernels: shapes are checked, outputs live in recycled memory, the GIL is
// released.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "kernels.h"

namespace mnist100 {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;
using Pair = std::array<int64_t, 2>;
using Image = std::array<int64_t, 4>;

inline void require(bool holds, const char* what) {
  if (!holds) throw py::value_error(std::string("mnist100._core: ") + what);
}

template <class T>
int64_t dim(const Array<T>& a, py::ssize_t axis) {
  require(axis < a.ndim(), "too few dimensions");
  return a.shape(axis);
}

template <class T>
bool has_shape(const Array<T>& a, const std::vector<py::ssize_t>& shape) {
  if (a.ndim() != static_cast<py::ssize_t>(shape.size())) return false;
  for (py::ssize_t i = 0; i < a.ndim(); ++i)
    if (a.shape(i) != shape[static_cast<size_t>(i)]) return false;
  return true;
}

template <class T>
void require_shape(const Array<T>& a, const std::vector<py::ssize_t>& shape) {
  require(has_shape(a, shape), "an array's shape does not fit the others");
}

template <class T>
std::vector<py::ssize_t> shape_of(const Array<T>& x) {
  return std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim());
}

// An array whose memory comes from acquire() and goes back when its last view is gone.
template <class T>
Array<T> empty(const std::vector<py::ssize_t>& shape) {
  size_t bytes = sizeof(T);
  for (py::ssize_t size : shape)
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes)) throw OutOfMemory(SIZE_MAX);
  void* block = acquire(bytes);
  const py::capsule owner(block, release);
  return Array<T>(shape, static_cast<const T*>(block), owner);
}

template <class T>
using Maybe = std::optional<Array<T>>;

template <class T>
const T* data_or_null(const Maybe<T>& a) {
  return a ? a->data() : nullptr;
}

// An array made here if `wanted`, else None; kernels take a null pointer for the latter.
template <class T>
Maybe<T> empty_if(bool wanted, const std::vector<py::ssize_t>& shape) {
  return wanted ? Maybe<T>(empty<T>(shape)) : Maybe<T>();
}

template <class T>
T* mutable_or_null(Maybe<T>& a) {
  return a ? a->mutable_data() : nullptr;
}

// An argument that is an array, taken as it is.
inline py::arg array(const char* name) { return py::arg(name).noconvert(); }

// Releases the GIL around a kernel that gets the number of threads as its last argument.
template <class F, class... A>
auto call(F kernel, A... args) {
  py::gil_scoped_release unlocked;
  return kernel(args..., num_threads());
}

[[noreturn]] inline void fail_index(const char* name, int64_t got, int64_t stop, const char* of) {
  throw py::value_error(std::string(name) + ": got the index " + std::to_string(got) + ", wants 0 to " +
                        std::to_string(stop - 1) + ": " + of);
}

// Raises for the first index outside [0, stop). Without the GIL.
template <class T>
void require_below(const char* name, const T* values, int64_t size, T stop, const char* of) {
  const int64_t bad = call([=](int threads) { return first_outside(size, values, stop, threads); });
  if (bad >= 0) fail_index(name, values[bad], stop, of);
}

// Sizes are multiplied freely further on: nothing may come near the end of int64_t.
inline void require_countable(const std::vector<int64_t>& factors) {
  constexpr int64_t kLimit = int64_t{1} << 48;  // elements, a pebibyte of floats
  int64_t product = 1;
  for (int64_t factor : factors) {
    require(factor <= kLimit / product, "the sizes are larger than any memory");
    product *= factor > 0 ? factor : 1;
  }
}

// What there is with CUDA alone: cuda.cpp defines it, or no_cuda.cpp where it is not built.
void define_cuda(py::module_& m);

}  // namespace mnist100
