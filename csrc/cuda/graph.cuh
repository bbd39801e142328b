// Streams and graphs of them.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

class OwnStream {
 public:
  OwnStream() { check(cudaStreamCreateWithFlags(&at, cudaStreamNonBlocking), "making a stream"); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  ~OwnStream() { cudaStreamDestroy(at); }
  cudaStream_t at = nullptr;
};

class Graph {
 public:
  // What `enqueue` launches, to be launched again and again.
  template <class F>
  Graph(cudaStream_t stream, F enqueue) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capturing a step");
    cudaGraph_t graph = nullptr;
    try {
      enqueue();
    } catch (...) {
      if (cudaStreamEndCapture(stream, &graph) == cudaSuccess) cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(stream, &graph), "capturing a step");
    const cudaError_t status = cudaGraphInstantiate(&exec_, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "making a graph of a step");
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    if (exec_) cudaGraphExecDestroy(exec_);
  }
  void launch(cudaStream_t stream) const { check(cudaGraphLaunch(exec_, stream), "launching a step"); }

 private:
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace mnist100::cuda
