// Splitting one call over the threads of XLA.

#ifndef FLAXLAYER_CSRC_FFI_PARALLEL_H_
#define FLAXLAYER_CSRC_FFI_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "xla/ffi/api/ffi.h"

namespace flaxlayer {

// Calls work(begin, end) for parts that make up [0, count), on this thread and
// on those of `pool`, and returns when all are done. Each part but the last is
// a multiple of `grain`; what is at most one grain is done here and now, and
// nothing is allocated for it.
//
// It never waits for a thread that has not come: parts are taken one by one,
// and this thread takes all that nobody else does. So a pool whose threads are
// all busy, even with waiting here themselves, delays nothing.
//
// The grain must not be zero. An exception, be it of `work` or for want of
// memory, ends the process: it could not leave here while other threads are at
// work on what belongs to the caller.
template <typename Work>
void ParallelFor(::xla::ffi::ThreadPool pool, size_t count, size_t grain,
                 const Work& work) noexcept {
  if (count <= grain) {
    if (count > 0) work(size_t{0}, count);
    return;
  }
  const size_t grains = 1 + (count - 1) / grain;
  // This one, even where there is no pool, and no more than there is work for.
  const size_t threads = static_cast<size_t>(
      std::min<uint64_t>(grains, std::max<int64_t>(1, pool.num_threads())));
  if (threads == 1) {
    work(size_t{0}, count);
    return;
  }

  // It outlives this call where a thread comes after everything is done.
  struct Shared {
    std::atomic<size_t> next{0};
    std::mutex mutex;
    std::condition_variable all_done;
    size_t num_done = 0;  // Guarded by `mutex`.
  };
  auto shared = std::make_shared<Shared>();
  // More parts than threads: one of them may be late or slow.
  const size_t num_parts = std::min(grains, 4 * threads);
  const size_t part = (grains + num_parts - 1) / num_parts * grain;
  // Rounding up may leave nothing for the last ones.
  const size_t used_parts = 1 + (count - 1) / part;

  // `work` is only used for a part, and this call waits for all parts.
  auto take_parts = [shared, count, part, used_parts, &work] {
    for (;;) {
      const size_t index = shared->next.fetch_add(1, std::memory_order_relaxed);
      if (index >= used_parts) return;
      const size_t begin = index * part;
      work(begin, begin + std::min(part, count - begin));
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (++shared->num_done == used_parts) shared->all_done.notify_one();
    }
  };
  const size_t helpers = std::min(threads, used_parts) - 1;
  for (size_t i = 0; i < helpers; ++i) {
    pool.Schedule(decltype(take_parts)(take_parts));
  }
  take_parts();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all_done.wait(lock, [&] { return shared->num_done == used_parts; });
}

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_FFI_PARALLEL_H_
