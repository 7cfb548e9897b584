#include "csrc/ffi/state_merge.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/csrc/ffi/call_frame.h"
#include "tests/csrc/ffi/fake_api.h"
#include "tests/csrc/ffi/test_buffer.h"
#include "xla/ffi/api/ffi.h"

namespace {
// While it counts: how often any thread has allocated memory.
std::atomic<bool> counts{false};
std::atomic<int> num_allocations{0};
}  // namespace

// Not inlined, or GCC takes malloc and delete for what does not match.
#if defined(__GNUC__)
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE
#endif

NOINLINE void* operator new(size_t size, const std::nothrow_t&) noexcept {
  if (counts) ++num_allocations;
  return std::malloc(std::max<size_t>(size, 1));
}
NOINLINE void* operator new(size_t size) {
  void* memory = operator new(size, std::nothrow);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
NOINLINE void operator delete(void* memory) noexcept { std::free(memory); }
NOINLINE void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace flaxlayer {
namespace {

using Dims = std::vector<int64_t>;
using Bytes = std::vector<uint8_t>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr XLA_FFI_DataType kPred = XLA_FFI_DataType_PRED;
constexpr XLA_FFI_DataType kF32 = XLA_FFI_DataType_F32;

size_t WidthOf(XLA_FFI_DataType dtype) {
  return ::xla::ffi::ByteWidth(static_cast<::xla::ffi::DataType>(dtype));
}

// Whether the number at `data` is finite; one that is not floating-point is.
bool IsFinite(XLA_FFI_DataType dtype, const uint8_t* data) {
  const auto finite = [data](auto number, size_t at) {
    std::memcpy(&number, data + at * sizeof(number), sizeof(number));
    return std::isfinite(number);
  };
  const auto finite16 = [data](uint16_t exponent) {
    uint16_t bits;
    std::memcpy(&bits, data, sizeof(bits));
    return (bits & exponent) != exponent;
  };
  switch (dtype) {
    case XLA_FFI_DataType_F16:
      return finite16(0x7c00);
    case XLA_FFI_DataType_BF16:
      return finite16(0x7f80);
    case XLA_FFI_DataType_F32:
      return finite(float{}, 0);
    case XLA_FFI_DataType_F64:
      return finite(double{}, 0);
    case XLA_FFI_DataType_C64:
      return finite(float{}, 0) && finite(float{}, 1);
    case XLA_FFI_DataType_C128:
      return finite(double{}, 0) && finite(double{}, 1);
    default:
      return true;
  }
}

// An old, a new and a merged leaf, of one type and shape if nothing is spoilt.
struct Leaf {
  Leaf(XLA_FFI_DataType dtype, const Dims& dims)
      : old_leaf(dtype, dims), new_leaf(dtype, dims), merged(dtype, dims) {}

  TestBuffer old_leaf;
  TestBuffer new_leaf;
  TestBuffer merged;
  // Where the merged leaf is if not in its own buffer.
  unsigned char* elsewhere = nullptr;
};

struct Call {
  explicit Call(Bytes update = {1}, const Dims& dims = {})
      : update(kPred, dims), taken(kPred, dims) {
    this->update.SetElements(update);
  }

  // A leaf with small numbers in any type.
  Leaf& Add(XLA_FFI_DataType dtype, const Dims& dims) {
    Leaf& leaf = leaves.emplace_back(dtype, dims);
    std::mt19937 random(static_cast<uint32_t>(leaves.size()));
    for (TestBuffer* buffer : {&leaf.old_leaf, &leaf.new_leaf}) {
      Bytes bytes(buffer->size());
      // No byte has its upper two bits set, and so no exponent all of its own.
      for (uint8_t& byte : bytes) byte = random() & 0x3f;
      buffer->SetElements(bytes);
    }
    return leaf;
  }

  // A leaf of f32.
  Leaf& Add(const std::vector<float>& old_leaf,
            const std::vector<float>& new_leaf) {
    Leaf& leaf = Add(kF32, {static_cast<int64_t>(old_leaf.size())});
    leaf.old_leaf.SetElements(old_leaf);
    leaf.new_leaf.SetElements(new_leaf);
    return leaf;
  }

  void MergeInPlace() {
    for (Leaf& leaf : leaves) leaf.elsewhere = leaf.old_leaf.bytes();
  }

  std::optional<CallError> Run(FakeThreadPool* pool = nullptr,
                               XLA_FFI_Handler* handler = FlaxlayerStateMerge) {
    FakeCall call;
    const auto operand = [&call](const TestBuffer& buffer) {
      call.Operand(buffer.dtype(), buffer.dims(), buffer.bytes());
    };
    operand(update);
    for (const Leaf& leaf : leaves) operand(leaf.old_leaf);
    for (const Leaf& leaf : leaves) operand(leaf.new_leaf);
    call.Result(taken.dtype(), taken.dims(), taken.bytes());
    for (const Leaf& leaf : leaves) {
      call.Result(leaf.merged.dtype(), leaf.merged.dims(),
                  leaf.elsewhere ? leaf.elsewhere : leaf.merged.bytes());
    }
    return call.Threads(pool).Run(handler);
  }

  TestBuffer update;
  TestBuffer taken;
  std::vector<Leaf> leaves;
};

// What the results are to be.
struct Expected {
  explicit Expected(const Call& call) : taken(call.update.Elements<uint8_t>()) {
    for (const Leaf& leaf : call.leaves) {
      merged.push_back(leaf.old_leaf.Elements<uint8_t>());
    }
    for (size_t at = 0; at < taken.size(); ++at) {
      for (const Leaf& leaf : call.leaves) {
        const Part part(leaf, at, taken.size());
        const size_t width = WidthOf(leaf.new_leaf.dtype());
        for (size_t i = part.begin; i < part.end; i += width) {
          taken[at] &=
              IsFinite(leaf.new_leaf.dtype(), leaf.new_leaf.bytes() + i);
        }
      }
      for (size_t i = 0; i < call.leaves.size() && taken[at]; ++i) {
        const Part part(call.leaves[i], at, taken.size());
        std::copy(call.leaves[i].new_leaf.bytes() + part.begin,
                  call.leaves[i].new_leaf.bytes() + part.end,
                  merged[i].begin() + static_cast<ptrdiff_t>(part.begin));
      }
    }
  }

  // The bytes that one element of update decides on.
  struct Part {
    Part(const Leaf& leaf, size_t at, size_t count)
        : begin(at * (leaf.new_leaf.size() / count)),
          end((at + 1) * (leaf.new_leaf.size() / count)) {}
    size_t begin;
    size_t end;
  };

  Bytes taken;
  std::vector<Bytes> merged;
};

// That the results are right, in buffers of their own and then in place.
void ExpectMerged(Call& call, FakeThreadPool* pool = nullptr) {
  const Expected expected(call);
  for (const bool in_place : {false, true}) {
    SCOPED_TRACE(in_place ? "in place" : "in buffers of their own");
    if (in_place) call.MergeInPlace();
    const std::optional<CallError> error = call.Run(pool);
    ASSERT_FALSE(error.has_value()) << error->message;
    EXPECT_EQ(call.taken.Elements<uint8_t>(), expected.taken);
    for (size_t i = 0; i < call.leaves.size(); ++i) {
      const Leaf& leaf = call.leaves[i];
      const TestBuffer& merged = in_place ? leaf.old_leaf : leaf.merged;
      EXPECT_EQ(merged.Elements<uint8_t>(), expected.merged[i]) << "leaf " << i;
    }
  }
}

// That the call fails and writes nothing.
void ExpectInvalid(Call& call, const std::string& text) {
  std::vector<Bytes> old_leaves;
  for (const Leaf& leaf : call.leaves) {
    old_leaves.push_back(leaf.old_leaf.Elements<uint8_t>());
  }
  const std::optional<CallError> error = call.Run();
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
  EXPECT_NE(error->message.find(text), std::string::npos) << error->message;
  EXPECT_TRUE(call.taken.is_untouched());
  for (size_t i = 0; i < call.leaves.size(); ++i) {
    EXPECT_TRUE(call.leaves[i].merged.is_untouched());
    EXPECT_EQ(call.leaves[i].old_leaf.Elements<uint8_t>(), old_leaves[i]);
  }
}

constexpr XLA_FFI_DataType kFloats[] = {
    XLA_FFI_DataType_F16, XLA_FFI_DataType_BF16, XLA_FFI_DataType_F32,
    XLA_FFI_DataType_F64, XLA_FFI_DataType_C64,  XLA_FFI_DataType_C128,
};
constexpr XLA_FFI_DataType kOthers[] = {
    XLA_FFI_DataType_PRED, XLA_FFI_DataType_S8,  XLA_FFI_DataType_S16,
    XLA_FFI_DataType_S32,  XLA_FFI_DataType_S64, XLA_FFI_DataType_U8,
    XLA_FFI_DataType_U16,  XLA_FFI_DataType_U32, XLA_FFI_DataType_U64,
};

// A call with leaves of every type.
Call CallWithAllTypes(Bytes update = {1}, const Dims& outer = {}) {
  Call call(std::move(update), outer);
  Dims dims = outer;
  dims.push_back(3);
  for (const XLA_FFI_DataType dtype : kFloats) call.Add(dtype, dims);
  for (const XLA_FFI_DataType dtype : kOthers) call.Add(dtype, dims);
  return call;
}

TEST(StateMergeHandlerTest, TakesNewLeaves) {
  Call call = CallWithAllTypes();
  ExpectMerged(call);
  EXPECT_EQ(call.taken.Elements<uint8_t>(), Bytes{1});
}

TEST(StateMergeHandlerTest, KeepsOldLeavesWithoutAnUpdate) {
  Call call = CallWithAllTypes({0});
  ExpectMerged(call);
  EXPECT_EQ(call.taken.Elements<uint8_t>(), Bytes{0});
}

TEST(StateMergeHandlerTest, AnyByteButZeroIsTrue) {
  Call call({2});
  call.Add({1.0f}, {2.0f});
  EXPECT_FALSE(call.Run().has_value());
  EXPECT_EQ(call.taken.Elements<uint8_t>(), Bytes{1});
  EXPECT_EQ(call.leaves[0].merged.Elements<float>(), std::vector<float>{2.0f});
}

TEST(StateMergeHandlerTest, KeepsAllWhereOneIsNotFinite) {
  // All bits set is a NaN in every format, and a number in other types.
  const size_t num_types = std::size(kFloats) + std::size(kOthers);
  for (size_t leaf = 0; leaf < num_types; ++leaf) {
    for (size_t element = 0; element < 3; ++element) {
      Call call = CallWithAllTypes();
      TestBuffer& spoilt = call.leaves[leaf].new_leaf;
      const size_t width = spoilt.size() / 3;
      std::memset(spoilt.bytes() + element * width, 0xff, width);
      ExpectMerged(call);
      EXPECT_EQ(call.taken.Elements<uint8_t>()[0], leaf >= std::size(kFloats));
    }
  }
}

TEST(StateMergeHandlerTest, EitherPartOfAComplexNumberCounts) {
  for (const XLA_FFI_DataType dtype :
       {XLA_FFI_DataType_C64, XLA_FFI_DataType_C128}) {
    for (size_t part = 0; part < 4; ++part) {
      Call call;
      TestBuffer& spoilt = call.Add(dtype, {2}).new_leaf;
      const size_t width = spoilt.size() / 4;
      std::memset(spoilt.bytes() + part * width, 0xff, width);
      ExpectMerged(call);
      EXPECT_EQ(call.taken.Elements<uint8_t>(), Bytes{0});
    }
  }
}

TEST(StateMergeHandlerTest, OldLeavesNeedNotBeFinite) {
  Call call;
  call.Add({kNan, 1.0f}, {2.0f, 3.0f});
  ExpectMerged(call);
  EXPECT_EQ(call.taken.Elements<uint8_t>(), Bytes{1});
}

TEST(StateMergeHandlerTest, DecidesForEachElementOfUpdate) {
  for (const Dims& outer : {Dims{4}, Dims{2, 2}, Dims{4, 1}}) {
    for (size_t spoilt = 0; spoilt < 4; ++spoilt) {
      Call call = CallWithAllTypes({1, 0, 1, 1}, outer);
      TestBuffer& leaf = call.leaves[2].new_leaf;
      std::memset(leaf.bytes() + spoilt * leaf.size() / 4, 0xff, 4);
      ExpectMerged(call);
    }
  }
}

TEST(StateMergeHandlerTest, AcceptsNoLeaves) {
  for (const uint8_t update : {0, 1}) {
    Call call({update});
    ExpectMerged(call);
  }
}

TEST(StateMergeHandlerTest, AcceptsEmptyLeaves) {
  Call call;
  call.Add(kF32, {0});
  call.Add({1.0f}, {2.0f});
  call.Add(kF32, {3, 0, 2});
  ExpectMerged(call);

  Call all_empty;
  all_empty.Add(kF32, {0});
  ExpectMerged(all_empty);

  Call no_updates({}, {0, 2});
  no_updates.Add(kF32, {0, 2, 5});
  ExpectMerged(no_updates);
}

TEST(StateMergeHandlerTest, AcceptsEmptyLeavesAnywhere) {
  // Where there is nothing, no place is shared.
  Call call;
  call.Add(kF32, {0});
  call.Add({1.0f, 2.0f}, {3.0f, 4.0f});
  call.leaves[0].elsewhere = call.leaves[1].new_leaf.bytes() + 4;
  EXPECT_FALSE(call.Run().has_value());
}

TEST(StateMergeHandlerTest, DoesNotRememberLeavesOfEarlierCalls) {
  for (const size_t count : {100, 3, 0, 7}) {
    Call call;
    for (size_t i = 0; i < count; ++i) {
      call.Add(kF32, {static_cast<int64_t>(i % 5)});
    }
    ExpectMerged(call);
  }
}

// Large enough for some parts, whose ends are in the middle of leaves.
Call LargeCall() {
  Call call;
  for (const int64_t size : {1, 120001, 3, 0, 250000, 64, 150001}) {
    call.Add(XLA_FFI_DataType_C128, {size});
    call.Add(XLA_FFI_DataType_U8, {size});
  }
  return call;
}

TEST(StateMergeHandlerTest, SharesLargeMergesAmongThreads) {
  for (const Tasks tasks : {Tasks::kOnThreads, Tasks::kInline, Tasks::kLate}) {
    for (const int64_t threads : {1, 2, 5}) {
      FakeThreadPool pool(threads, tasks);
      Call call = LargeCall();
      ExpectMerged(call, &pool);
      EXPECT_EQ(pool.num_scheduled() > 0, threads > 1);
    }
  }
}

TEST(StateMergeHandlerTest, LooksAtEverythingBeforeItWrites) {
  for (const Tasks tasks : {Tasks::kOnThreads, Tasks::kInline, Tasks::kLate}) {
    for (const size_t spoilt : {0, 8, 12}) {
      for (const bool last : {false, true}) {
        FakeThreadPool pool(4, tasks);
        Call call = LargeCall();
        TestBuffer& leaf = call.leaves[spoilt].new_leaf;
        std::memset(leaf.bytes() + (last ? leaf.size() - 8 : 0), 0xff, 8);
        ExpectMerged(call, &pool);
        EXPECT_EQ(call.taken.Elements<uint8_t>(), Bytes{0});
      }
    }
  }
}

TEST(StateMergeHandlerTest, SharesLittleWithNobody) {
  FakeThreadPool pool(8, Tasks::kOnThreads);
  Call call = CallWithAllTypes();
  ExpectMerged(call, &pool);
  EXPECT_EQ(pool.num_scheduled(), 0u);
}

XLA_FFI_Error* Counted(XLA_FFI_CallFrame* frame) {
  num_allocations = 0;
  counts = true;
  XLA_FFI_Error* error = FlaxlayerStateMerge(frame);
  counts = false;
  return error;
}

TEST(StateMergeHandlerTest, AllocatesNothingTheSecondTime) {
  Call call;
  for (int i = 0; i < 500; ++i) call.Add(kF32, {17});
  call.MergeInPlace();
  EXPECT_FALSE(call.Run(nullptr, Counted).has_value());
  EXPECT_FALSE(call.Run(nullptr, Counted).has_value());
  EXPECT_EQ(num_allocations, 0);
}

TEST(StateMergeHandlerTest, RejectsTypesThatCannotBeMerged) {
  for (const XLA_FFI_DataType dtype :
       {XLA_FFI_DataType_INVALID, XLA_FFI_DataType_TOKEN, XLA_FFI_DataType_S4,
        XLA_FFI_DataType_U4, XLA_FFI_DataType_F8E4M3FN,
        XLA_FFI_DataType_F8E5M2}) {
    Call call;
    call.Add({1.0f}, {2.0f});
    call.Add(dtype, {2});
    ExpectInvalid(call, "for leaf 1");
    ExpectInvalid(call, "XLA_FFI_DataType " + std::to_string(dtype) + "[2]");
  }
}

TEST(StateMergeHandlerTest, RejectsOtherTypesAndShapes) {
  const std::vector<std::pair<XLA_FFI_DataType, Dims>> others = {
      {XLA_FFI_DataType_S32, {2, 3}},
      {XLA_FFI_DataType_F64, {2, 3}},
      {kF32, {}},
      {kF32, {6}},
      {kF32, {3, 2}},
      {kF32, {2}},
      {kF32, {2, 3, 1}},
      {kF32, {2, 4}},
      {kF32, {-2, -3}},
  };
  for (const auto& [dtype, dims] : others) {
    for (const auto spoilt :
         {&Leaf::old_leaf, &Leaf::new_leaf, &Leaf::merged}) {
      Call call;
      call.Add(kF32, {2, 3});
      call.Add(kF32, {2, 3});
      call.leaves[1].*spoilt = TestBuffer(dtype, dims);
      ExpectInvalid(call, "must have the same type, one that can be merged");
      ExpectInvalid(call, "for leaf 1");
    }
  }
}

TEST(StateMergeHandlerTest, RejectsLeavesWithoutTheAxesOfUpdate) {
  for (const Dims& dims : {Dims{}, {3}, {2}, {3, 2}, {2, 4, 5}, {1, 2, 3}}) {
    Call call(Bytes(6, 1), {2, 3});
    call.Add(kF32, {2, 3, 4});
    call.Add(kF32, dims);
    ExpectInvalid(call, "beginning with those of pred[2,3]");
  }
}

TEST(StateMergeHandlerTest, RejectsImpossibleDimensions) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kTo32 = int64_t{1} << 32;
  for (const Dims& dims : {Dims{-1},
                           {0, -1},
                           {-2, -2},
                           {kTo32, kTo32},
                           {kMax},
                           {kMax, 3},
                           {kTo32, kTo32 / 4}}) {
    Call call;
    call.Add(kF32, dims);
    ExpectInvalid(call, "for leaf 0");
  }
  Call together;
  for (int i = 0; i < 5; ++i) together.Add(kPred, {kMax});
  ExpectInvalid(together, "larger than memory can be");
}

TEST(StateMergeHandlerTest, RejectsOtherVerdicts) {
  const std::vector<std::pair<XLA_FFI_DataType, Dims>> others = {
      {kPred, {1}}, {kPred, {0}}, {XLA_FFI_DataType_U8, {}}, {kPred, {-1}}};
  for (const auto& [dtype, dims] : others) {
    Call update;
    update.Add({1.0f}, {2.0f});
    update.update = TestBuffer(dtype, dims);
    ExpectInvalid(update, "must be pred[...] with the same dimensions");

    Call taken;
    taken.Add({1.0f}, {2.0f});
    taken.taken = TestBuffer(dtype, dims);
    ExpectInvalid(taken, "must be pred[...] with the same dimensions");
  }
  Call both;
  both.update = TestBuffer(XLA_FFI_DataType_U8, {});
  both.taken = TestBuffer(XLA_FFI_DataType_U8, {});
  ExpectInvalid(both, "got u8[] and u8[]");
}

TEST(StateMergeHandlerTest, RejectsWrongNumbers) {
  // operands, results
  for (const auto& [operands, results] :
       std::vector<std::pair<int, int>>{{0, 0},
                                        {0, 1},
                                        {1, 0},
                                        {1, 2},
                                        {2, 1},
                                        {2, 2},
                                        {3, 1},
                                        {3, 3},
                                        {4, 2},
                                        {4, 3},
                                        {6, 3}}) {
    TestBuffer update(kPred, {});
    TestBuffer leaf(kF32, {2});
    TestBuffer taken(kPred, {});
    std::vector<TestBuffer> merged;
    for (int i = 0; i < 3; ++i) merged.emplace_back(kF32, Dims{2});
    FakeCall call;
    for (int i = 0; i < operands; ++i) {
      const TestBuffer& buffer = i == 0 ? update : leaf;
      call.Operand(buffer.dtype(), buffer.dims(), buffer.bytes());
    }
    for (int i = 0; i < results; ++i) {
      const TestBuffer& buffer = i == 0 ? taken : merged[i];
      call.Result(buffer.dtype(), buffer.dims(), buffer.bytes());
    }
    const std::optional<CallError> error = call.Run(FlaxlayerStateMerge);
    ASSERT_TRUE(error.has_value()) << operands << " and " << results;
    EXPECT_EQ(error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
    EXPECT_TRUE(taken.is_untouched());
    for (const TestBuffer& buffer : merged) EXPECT_TRUE(buffer.is_untouched());
  }
}

// Two leaves of four numbers, with the merged one of the second at `place`.
void ExpectShared(unsigned char* (*place)(Call&)) {
  Call call;
  call.Add({1, 2, 3, 4}, {5, 6, 7, 8});
  call.Add({1, 2, 3, 4}, {5, 6, 7, 8});
  call.leaves[1].elsewhere = place(call);
  ExpectInvalid(call, "must share no memory");
}

TEST(StateMergeHandlerTest, RejectsSharedMemory) {
  // Another operand or result as a whole, and a part of one.
  ExpectShared([](Call& c) { return c.leaves[0].old_leaf.bytes(); });
  ExpectShared([](Call& c) { return c.leaves[0].new_leaf.bytes(); });
  ExpectShared([](Call& c) { return c.leaves[0].merged.bytes(); });
  ExpectShared([](Call& c) { return c.leaves[1].new_leaf.bytes(); });
  ExpectShared([](Call& c) { return c.leaves[0].old_leaf.bytes() + 12; });
  ExpectShared([](Call& c) { return c.leaves[0].merged.bytes() - 12; });
  ExpectShared([](Call& c) { return c.leaves[1].old_leaf.bytes() + 4; });
  ExpectShared([](Call& c) { return c.leaves[1].old_leaf.bytes() - 4; });
  ExpectShared([](Call& c) { return c.leaves[1].new_leaf.bytes() + 15; });
  ExpectShared([](Call& c) { return c.update.bytes(); });
  ExpectShared([](Call& c) { return c.update.bytes() - 15; });
  ExpectShared([](Call& c) { return c.taken.bytes(); });
}

TEST(StateMergeHandlerTest, RejectsSharedVerdicts) {
  const auto run = [](const TestBuffer& update, const TestBuffer& old_leaf,
                      const TestBuffer& new_leaf, unsigned char* taken) {
    TestBuffer merged(kPred, {4, 2});
    const std::optional<CallError> error =
        FakeCall()
            .Operand(kPred, {4}, update.bytes())
            .Operand(kPred, {4, 2}, old_leaf.bytes())
            .Operand(kPred, {4, 2}, new_leaf.bytes())
            .Result(kPred, {4}, taken)
            .Result(kPred, {4, 2}, merged.bytes())
            .Run(FlaxlayerStateMerge);
    ASSERT_TRUE(error.has_value());
    EXPECT_NE(error->message.find("must share no memory"), std::string::npos);
    EXPECT_TRUE(merged.is_untouched());
  };
  const TestBuffer update(kPred, {4});
  const TestBuffer old_leaf(kPred, {4, 2});
  const TestBuffer new_leaf(kPred, {4, 2});
  for (const TestBuffer* other : {&update, &old_leaf, &new_leaf}) {
    run(update, old_leaf, new_leaf, other->bytes());
    run(update, old_leaf, new_leaf, other->bytes() + 3);
  }
}

}  // namespace
}  // namespace flaxlayer
