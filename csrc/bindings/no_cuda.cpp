// In the place of cuda.cpp where CUDA is not built.
#include "bindings/arrays.h"

namespace mnist100 {

void define_cuda(py::module_&) {}

}  // namespace mnist100
