// The part of XLA's runtime that handlers call back: errors and the threads.

#ifndef FLAXLAYER_TESTS_CSRC_FFI_FAKE_API_H_
#define FLAXLAYER_TESTS_CSRC_FFI_FAKE_API_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "xla/ffi/api/c_api.h"

// Opaque in the API: what an error is made of is the runtime's business.
struct XLA_FFI_Error {
  std::string message;
  XLA_FFI_Error_Code code;
};

namespace flaxlayer {

// When and where the tasks of a handler are run; the API promises nothing.
enum class Tasks {
  kOnThreads,  // Each on a thread of its own, from now on.
  kInline,     // Here, before Schedule() returns.
  kLate,       // Here, by Finish(): all threads were busy with something else.
};

class FakeThreadPool {
 public:
  // `num_threads` is what it says of itself, whether or not it is true.
  FakeThreadPool(int64_t num_threads, Tasks tasks)
      : num_threads_(num_threads), tasks_(tasks) {}
  FakeThreadPool(const FakeThreadPool&) = delete;
  FakeThreadPool& operator=(const FakeThreadPool&) = delete;
  ~FakeThreadPool() { Finish(); }

  int64_t num_threads() const { return num_threads_; }
  size_t num_scheduled() const { return num_scheduled_; }

  void Schedule(XLA_FFI_Task* task, void* data) {
    if (tasks_ == Tasks::kInline) task(data);
    // Tasks may schedule tasks.
    std::lock_guard<std::mutex> lock(mutex_);
    ++num_scheduled_;
    if (tasks_ == Tasks::kOnThreads) threads_.emplace_back(task, data);
    if (tasks_ == Tasks::kLate) late_.emplace_back(task, data);
  }

  // Returns when every task has been run. Nothing may be scheduled meanwhile.
  void Finish() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    for (auto& [task, data] : late_) task(data);
    late_.clear();
  }

 private:
  const int64_t num_threads_;
  const Tasks tasks_;
  std::mutex mutex_;
  // Guarded by `mutex_` while there may be tasks.
  size_t num_scheduled_ = 0;
  std::vector<std::thread> threads_;
  std::vector<std::pair<XLA_FFI_Task*, void*>> late_;
};

// The functions that handlers use. The context that is passed to those of the
// threads is a FakeThreadPool, or null where XLA would have none; its type has
// different names in different versions of the API. That of a stream is the
// stream.
inline XLA_FFI_Api FakeApi() {
  XLA_FFI_Api api = {};
  api.struct_size = XLA_FFI_Api_STRUCT_SIZE;
  api.api_version.struct_size = XLA_FFI_Api_Version_STRUCT_SIZE;
  api.api_version.major_version = XLA_FFI_API_MAJOR;
  api.api_version.minor_version = XLA_FFI_API_MINOR;
  api.XLA_FFI_Error_Create = [](XLA_FFI_Error_Create_Args* args) {
    return new XLA_FFI_Error{args->message, args->errc};
  };
  api.XLA_FFI_Error_Destroy = [](XLA_FFI_Error_Destroy_Args* args) {
    delete args->error;
  };
  api.XLA_FFI_ThreadPool_NumThreads =
      [](XLA_FFI_ThreadPool_NumThreads_Args* args) -> XLA_FFI_Error* {
    if (args->ctx == nullptr) {
      return new XLA_FFI_Error{"no thread pool",
                               XLA_FFI_Error_Code_UNIMPLEMENTED};
    }
    auto* pool = reinterpret_cast<FakeThreadPool*>(args->ctx);
    *args->num_threads = pool->num_threads();
    return nullptr;
  };
  // Without a pool nothing is to be scheduled, and this fails.
  api.XLA_FFI_ThreadPool_Schedule =
      [](XLA_FFI_ThreadPool_Schedule_Args* args) -> XLA_FFI_Error* {
    reinterpret_cast<FakeThreadPool*>(args->ctx)->Schedule(args->task,
                                                           args->data);
    return nullptr;
  };
  api.XLA_FFI_Stream_Get = [](XLA_FFI_Stream_Get_Args* args) -> XLA_FFI_Error* {
    args->stream = reinterpret_cast<void*>(args->ctx);
    return nullptr;
  };
  return api;
}

}  // namespace flaxlayer

#endif  // FLAXLAYER_TESTS_CSRC_FFI_FAKE_API_H_
