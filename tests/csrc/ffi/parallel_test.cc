#include "csrc/ffi/parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/csrc/ffi/fake_api.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

using Part = std::pair<size_t, size_t>;

// Calls ParallelFor with what a handler would get for this pool, or for none.
template <typename Work>
void InParallel(FakeThreadPool* pool, size_t count, size_t grain,
                const Work& work) {
  const XLA_FFI_Api api = FakeApi();
  ffi::DiagnosticEngine diagnostic;
  ParallelFor(
      *ffi::CtxDecoding<ffi::ThreadPool>::Decode(
          &api, reinterpret_cast<decltype(XLA_FFI_CallFrame::ctx)>(pool),
          diagnostic),
      count, grain, work);
  EXPECT_EQ(diagnostic.Result(), "");
}

// The parts in their order.
std::set<Part> Parts(FakeThreadPool* pool, size_t count, size_t grain) {
  std::mutex mutex;
  std::set<Part> parts;
  InParallel(pool, count, grain, [&](size_t begin, size_t end) {
    std::lock_guard<std::mutex> lock(mutex);
    EXPECT_TRUE(parts.emplace(begin, end).second);
  });
  return parts;
}

// That they make up [0, count).
void ExpectWhole(const std::set<Part>& parts, size_t count, size_t grain) {
  size_t at = 0;
  for (const Part& part : parts) {
    EXPECT_EQ(part.first, at);
    EXPECT_GT(part.second, part.first);
    if (part.second != count) {
      EXPECT_EQ((part.second - part.first) % grain, 0u);
    }
    at = part.second;
  }
  EXPECT_EQ(at, count);
}

TEST(ParallelForTest, DoesEachPartOnce) {
  for (const Tasks tasks : {Tasks::kOnThreads, Tasks::kInline, Tasks::kLate}) {
    for (const int64_t threads : {1, 2, 3, 8, 100}) {
      for (const size_t grain : {1, 7, 64}) {
        for (const size_t count :
             {size_t{0}, size_t{1}, grain - 1, grain, grain + 1, 2 * grain,
              3 * grain + 1, 33 * grain, 50 * grain - 1, 1000 * grain + 3}) {
          FakeThreadPool pool(threads, tasks);
          SCOPED_TRACE(testing::Message()
                       << threads << " threads, " << count << " by " << grain
                       << ", tasks " << static_cast<int>(tasks));
          ExpectWhole(Parts(&pool, count, grain), count, grain);
        }
      }
    }
  }
}

TEST(ParallelForTest, NeedsNoPool) {
  EXPECT_EQ(Parts(nullptr, 1000, 10), (std::set<Part>{{0, 1000}}));
}

TEST(ParallelForTest, IsDoneHereIfThePoolHasNoOtherThread) {
  for (const int64_t threads : {int64_t{0}, int64_t{1}, int64_t{-1},
                                std::numeric_limits<int64_t>::min()}) {
    FakeThreadPool pool(threads, Tasks::kLate);
    EXPECT_EQ(Parts(&pool, 1000, 10), (std::set<Part>{{0, 1000}}));
    EXPECT_EQ(pool.num_scheduled(), 0u);
  }
}

TEST(ParallelForTest, SchedulesNothingForOneGrain) {
  FakeThreadPool pool(8, Tasks::kLate);
  EXPECT_EQ(Parts(&pool, 10, 10), (std::set<Part>{{0, 10}}));
  EXPECT_EQ(Parts(&pool, 0, 10), (std::set<Part>{}));
  EXPECT_EQ(pool.num_scheduled(), 0u);
}

TEST(ParallelForTest, SchedulesNoMoreThanThereIsToDo) {
  for (const int64_t threads : {int64_t{3}, int64_t{1000}, int64_t{1} << 62,
                                std::numeric_limits<int64_t>::max()}) {
    FakeThreadPool pool(threads, Tasks::kLate);
    ExpectWhole(Parts(&pool, 25, 10), 25, 10);
    EXPECT_EQ(pool.num_scheduled(), 2u);  // Three parts, one of them for us.
  }
}

TEST(ParallelForTest, CountsToTheLastNumber) {
  constexpr size_t kMax = std::numeric_limits<size_t>::max();
  for (const size_t grain : {kMax, kMax - 1, kMax / 2, kMax / 3, kMax / 100}) {
    for (const int64_t threads : {1, 2, 100}) {
      FakeThreadPool pool(threads, Tasks::kLate);
      ExpectWhole(Parts(&pool, kMax, grain), kMax, grain);
    }
  }
}

TEST(ParallelForTest, UsesSeveralThreads) {
  // The first part to begin waits for another one, which has to be begun by
  // another thread.
  FakeThreadPool pool(4, Tasks::kOnThreads);
  std::mutex mutex;
  std::condition_variable begun;
  std::set<std::thread::id> threads;
  InParallel(&pool, 100, 1, [&](size_t, size_t) {
    std::unique_lock<std::mutex> lock(mutex);
    threads.insert(std::this_thread::get_id());
    begun.notify_all();
    begun.wait(lock, [&] { return threads.size() > 1; });
  });
  EXPECT_GT(threads.size(), 1u);
}

TEST(ParallelForTest, WaitsForTheThreads) {
  FakeThreadPool pool(2, Tasks::kOnThreads);
  const std::thread::id caller = std::this_thread::get_id();
  std::mutex mutex;
  std::condition_variable begun;
  bool other_has_begun = false;
  std::atomic<int> num_done{0};
  InParallel(&pool, 2, 1, [&](size_t, size_t) {
    std::unique_lock<std::mutex> lock(mutex);
    if (std::this_thread::get_id() == caller) {
      begun.wait(lock, [&] { return other_has_begun; });
    } else {
      other_has_begun = true;
      begun.notify_all();
      lock.unlock();
      // The caller is done with its part, or with both if it has not waited.
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ++num_done;
  });
  EXPECT_EQ(num_done, 2);
}

TEST(ParallelForTest, SeesWhatTheThreadsHaveWritten) {
  // Without a lock or an atomic: ThreadSanitizer would tell.
  for (int i = 0; i < 20; ++i) {
    std::vector<int> numbers(10000);
    FakeThreadPool pool(4, Tasks::kOnThreads);
    InParallel(&pool, numbers.size(), 100, [&](size_t begin, size_t end) {
      for (size_t at = begin; at < end; ++at) ++numbers[at];
    });
    EXPECT_EQ(numbers, std::vector<int>(10000, 1));
  }
}

TEST(ParallelForTest, LeavesNothingForLateThreads) {
  FakeThreadPool pool(8, Tasks::kLate);
  auto calls = std::make_unique<int>(0);
  {
    // Gone when the tasks come, which AddressSanitizer would notice.
    auto work = std::make_unique<std::vector<int>>(1000);
    InParallel(
        &pool, work->size(), 10,
        [numbers = work.get(), calls = calls.get()](size_t begin, size_t end) {
          ++*calls;
          for (size_t at = begin; at < end; ++at) ++(*numbers)[at];
        });
    EXPECT_EQ(*work, std::vector<int>(1000, 1));
  }
  calls.reset();
  EXPECT_EQ(pool.num_scheduled(), 7u);
  pool.Finish();
}

TEST(ParallelForTest, ReturnsWhileThreadsMayStillCome) {
  // Tasks that begin at any time, before the work is done or after it is gone.
  for (int i = 0; i < 200; ++i) {
    FakeThreadPool pool(4, Tasks::kOnThreads);
    auto work = std::make_unique<std::vector<int>>(64);
    InParallel(&pool, work->size(), 1, [&](size_t begin, size_t end) {
      for (size_t at = begin; at < end; ++at) ++(*work)[at];
    });
    EXPECT_EQ(*work, std::vector<int>(64, 1));
    work.reset();
  }
}

TEST(ParallelForTest, MayBeNested) {
  FakeThreadPool pool(3, Tasks::kOnThreads);
  std::vector<std::atomic<int>> numbers(40 * 50);
  InParallel(&pool, 40, 1, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) {
      InParallel(&pool, 50, 5, [&](size_t first, size_t last) {
        for (size_t at = first; at < last; ++at) ++numbers[row * 50 + at];
      });
    }
  });
  for (const std::atomic<int>& number : numbers) EXPECT_EQ(number, 1);
}

}  // namespace
}  // namespace flaxlayer
