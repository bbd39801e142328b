// In the place of cuda.cpp where CUDA is not built.
namespace pybind11 {
class module_;  // its headers would take longer to compile than all of this
}

namespace mnist100 {

void define_cuda(pybind11::module_& m);
void define_cuda(pybind11::module_&) {}

}  // namespace mnist100
