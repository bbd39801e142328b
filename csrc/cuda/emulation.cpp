// The checked longjmp takes a jump to another stack for a mistake.
#undef _FORTIFY_SOURCE
#include "emulation.h"

#include <ucontext.h>

#include <utility>

namespace mnist100::cuda::emulation {
namespace {

void pause(Machine& m) {
  if (_setjmp(m.current->place) == 0) _longjmp(m.scheduler, 1);
}

void body() {
  for (;;) {
    (*machine().kernel)();
    machine().current->waiting = Waiting::kDone;
    pause(machine());
  }
}

void go_on(Machine& m, Fiber& fiber) {
  m.current = &fiber;
  if (_setjmp(m.scheduler) != 0) return;
  if (fiber.stack) _longjmp(fiber.place, 1);
  fiber.stack.reset(new char[kStackBytes]);
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, body, 0);
  setcontext(&context);
}

// Lets every thread that may run do so up to its next barrier. False once all have ended.
bool round(Machine& m, size_t threads) {
  bool ended = true, all_at_barrier = true;
  for (size_t i = 0; i < threads; ++i) {
    Fiber& fiber = m.fibers[i];
    if (fiber.waiting == Waiting::kNo || fiber.waiting == Waiting::kWarp) go_on(m, fiber);
    ended = ended && fiber.waiting == Waiting::kDone;
    all_at_barrier = all_at_barrier && (fiber.waiting == Waiting::kDone || fiber.waiting == Waiting::kBlock);
  }
  if (all_at_barrier)
    for (size_t i = 0; i < threads; ++i)
      if (m.fibers[i].waiting == Waiting::kBlock) m.fibers[i].waiting = Waiting::kNo;
  return !ended;
}

}  // namespace

void wait(Waiting for_whom) {
  machine().current->waiting = for_whom;
  pause(machine());
}

void submit(std::function<void()> work) {
  if (machine().graph)
    machine().graph->push_back(std::move(work));
  else
    work();
}

void run(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  Machine& m = machine();
  const std::lock_guard<std::mutex> held(m.one_launch);
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (m.fibers.size() < threads) m.fibers = std::vector<Fiber>(threads);  // none of them is running
  m.kernel = &kernel;
  m.size = block;
  m.grid = grid;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        m.block = dim3(x, y, z);
        size_t i = 0;
        for (unsigned tz = 0; tz < block.z; ++tz)
          for (unsigned ty = 0; ty < block.y; ++ty)
            for (unsigned tx = 0; tx < block.x; ++tx) {
              m.fibers[i].index = dim3(tx, ty, tz);
              m.fibers[i++].waiting = Waiting::kNo;
            }
        while (round(m, threads)) {
        }
      }
  m.kernel = nullptr;
}

}  // namespace mnist100::cuda::emulation
