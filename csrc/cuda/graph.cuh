// Streams and graphs of them.
#pragma once

#include "device_memory.cuh"

namespace mnist100::cuda {

class OwnStream {
 public:
  OwnStream() { check(cudaStreamCreateWithFlags(&at, cudaStreamNonBlocking), "making a stream"); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  ~OwnStream() { cudaStreamDestroy(at); }
  cudaStream_t at = nullptr;
};

class OwnEvent {
 public:
  OwnEvent() { check(cudaEventCreateWithFlags(&at_, cudaEventDisableTiming), "making an event"); }
  OwnEvent(const OwnEvent&) = delete;
  OwnEvent& operator=(const OwnEvent&) = delete;
  ~OwnEvent() { cudaEventDestroy(at_); }
  // What `later` gets from now on waits for what `earlier` has.
  void order(cudaStream_t earlier, cudaStream_t later) const {
    record(earlier);
    await(later);
  }
  void record(cudaStream_t stream) const { check(cudaEventRecord(at_, stream), "ordering streams"); }
  // What `stream` gets from now on waits for what the last recorded one had then.
  void await(cudaStream_t stream) const { check(cudaStreamWaitEvent(stream, at_, 0), "ordering streams"); }

 private:
  cudaEvent_t at_ = nullptr;
};

// A second stream beside the main one, with memory of its own, for what the main one does not wait for soon.
class Branch {
 public:
  // launch(stream): after all that `main` has so far.
  template <class Launch>
  void run(cudaStream_t main, Launch launch) {
    const Workspace::Use use(workspace_);
    event_.order(main, stream_.at);
    is_apart_ = true;
    launch(stream_.at);
  }
  // Lets `main` wait, from await_mark on, for what has run up to here.
  void mark() {
    mark_.record(stream_.at);
    is_marked_ = true;
  }
  void await_mark(cudaStream_t main) {
    if (is_marked_) mark_.await(main);
    is_marked_ = false;
  }
  // Lets `main` wait for all of it, if anything ran.
  void join(cudaStream_t main) {
    if (is_apart_) event_.order(stream_.at, main);
    is_apart_ = false;
  }

 private:
  OwnStream stream_;
  OwnEvent event_, mark_;
  Workspace workspace_;
  bool is_apart_ = false, is_marked_ = false;
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
