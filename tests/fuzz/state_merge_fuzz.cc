// The handler that merges states, called as a program might that XLA did not
// compile; see random_handlers_fuzz.cc. Results may also lie where they must
// not: in the memory of operands or of other results.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <vector>

#include "csrc/ffi/state_merge.h"
#include "tests/csrc/ffi/call_frame.h"
#include "tests/csrc/ffi/fake_api.h"
#include "tests/csrc/ffi/test_buffer.h"
#include "tests/fuzz/fuzz_arrays.h"
#include "tests/fuzz/fuzz_input.h"

namespace flaxlayer {
namespace {

// Those that leaves may have.
constexpr XLA_FFI_DataType kLeafTypes[] = {
    XLA_FFI_DataType_PRED, XLA_FFI_DataType_S8,   XLA_FFI_DataType_S16,
    XLA_FFI_DataType_S32,  XLA_FFI_DataType_S64,  XLA_FFI_DataType_U8,
    XLA_FFI_DataType_U16,  XLA_FFI_DataType_U32,  XLA_FFI_DataType_U64,
    XLA_FFI_DataType_F16,  XLA_FFI_DataType_BF16, XLA_FFI_DataType_F32,
    XLA_FFI_DataType_F64,  XLA_FFI_DataType_C64,  XLA_FFI_DataType_C128,
};

struct Call {
  std::vector<Array> operands;
  std::vector<Array> results;
};

Call RightCall(FuzzInput& input) {
  const Array update = {XLA_FFI_DataType_PRED, TakeDims(input)};
  std::vector<Array> leaves(input.TakeUpTo(4));
  for (Array& leaf : leaves) {
    const Dims shape = TakeDims(input);
    leaf = {input.TakeOneOf(kLeafTypes), update.dims};
    leaf.dims.insert(leaf.dims.end(), shape.begin(), shape.end());
    // Sometimes enough for several threads.
    if (input.TakeUpTo(63) == 0) {
      const uint64_t count = std::max<uint64_t>(1, *ElementCount(leaf.dims));
      leaf.dims.push_back(
          static_cast<int64_t>(4 * input.TakeUpTo(65535) / count));
    }
  }
  Call call = {{update}, {update}};
  call.operands.insert(call.operands.end(), leaves.begin(), leaves.end());
  call.operands.insert(call.operands.end(), leaves.begin(), leaves.end());
  call.results.insert(call.results.end(), leaves.begin(), leaves.end());
  return call;
}

bool IsRight(const Call& call) {
  if (call.operands.empty() || call.results.empty()) return false;
  const Array& update = call.operands[0];
  if (update.dtype != XLA_FFI_DataType_PRED || !(call.results[0] == update)) {
    return false;
  }
  const size_t num_leaves = call.results.size() - 1;
  if (call.operands.size() != 1 + 2 * num_leaves) return false;
  for (size_t i = 1; i <= num_leaves; ++i) {
    const Array& leaf = call.operands[i];
    if (std::count(std::begin(kLeafTypes), std::end(kLeafTypes), leaf.dtype) !=
            1 ||
        !(call.operands[num_leaves + i] == leaf) ||
        !(call.results[i] == leaf) || leaf.dims.size() < update.dims.size() ||
        !std::equal(update.dims.begin(), update.dims.end(),
                    leaf.dims.begin())) {
      return false;
    }
  }
  return true;
}

template <typename Number>
bool AllNumbersFinite(const uint8_t* data, size_t size) {
  std::vector<Number> numbers(size / sizeof(Number));
  if (!numbers.empty()) std::memcpy(numbers.data(), data, size);
  return std::all_of(numbers.begin(), numbers.end(),
                     [](Number number) { return std::isfinite(number); });
}

// For types that C++ does not have: whether an exponent is not all ones.
bool AllHalvesFinite(const uint8_t* data, size_t size, uint16_t exponent) {
  std::vector<uint16_t> numbers(size / sizeof(uint16_t));
  if (!numbers.empty()) std::memcpy(numbers.data(), data, size);
  return std::all_of(numbers.begin(), numbers.end(), [&](uint16_t number) {
    return (number & exponent) != exponent;
  });
}

bool IsFinite(XLA_FFI_DataType dtype, const uint8_t* data, size_t size) {
  switch (dtype) {
    case XLA_FFI_DataType_F16:
      return AllHalvesFinite(data, size, 0x7c00);
    case XLA_FFI_DataType_BF16:
      return AllHalvesFinite(data, size, 0x7f80);
    case XLA_FFI_DataType_F32:
    case XLA_FFI_DataType_C64:
      return AllNumbersFinite<float>(data, size);
    case XLA_FFI_DataType_F64:
    case XLA_FFI_DataType_C128:
      return AllNumbersFinite<double>(data, size);
    default:
      return true;
  }
}

// Anything, or numbers of which next to none is infinite or NaN.
void FillOperand(FuzzInput& input, TestBuffer& buffer) {
  uint32_t number = input.Take<uint32_t>();
  const uint8_t mask = input.TakeBool() ? 0xff : 0x3f;
  for (size_t i = 0; i < buffer.size(); ++i) {
    number = number * 1664525 + 1013904223;
    buffer.bytes()[i] = static_cast<uint8_t>(number >> 24) & mask;
  }
  if (buffer.size() > 0 && input.TakeBool()) {
    const size_t at = input.Take<uint32_t>() % buffer.size();
    std::fill(buffer.bytes() + at,
              buffer.bytes() + std::min(buffer.size(), at + 4), 0xff);
  }
}

struct Memory {
  unsigned char* data;
  size_t size;

  bool Overlaps(const Memory& other) const {
    const std::less<const unsigned char*> less;
    return size > 0 && other.size > 0 && less(data, other.data + other.size) &&
           less(other.data, data + size);
  }
};

// Whether results are where they may be; for calls that are right otherwise.
bool AreApart(const std::vector<Memory>& operands,
              const std::vector<Memory>& results) {
  for (size_t i = 0; i < results.size(); ++i) {
    for (size_t j = 0; j < operands.size(); ++j) {
      const bool in_place =
          i > 0 && j == i && results[i].data == operands[j].data;
      if (results[i].Overlaps(operands[j]) && !in_place) return false;
    }
    for (size_t j = 0; j < i; ++j) {
      if (results[i].Overlaps(results[j])) return false;
    }
  }
  return true;
}

using Bytes = std::vector<uint8_t>;

Bytes BytesIn(const Memory& memory) {
  return Bytes(memory.data, memory.data + memory.size);
}

// What the results have to be. `operands` are the bytes before the call.
std::vector<Bytes> Expected(const Call& call,
                            const std::vector<Bytes>& operands) {
  const size_t num_leaves = call.results.size() - 1;
  std::vector<Bytes> results(operands.begin(),
                             operands.begin() + 1 + num_leaves);
  const size_t count = operands[0].size();
  for (size_t at = 0; at < count; ++at) {
    bool take = operands[0][at] != 0;
    for (size_t i = 1; i <= num_leaves; ++i) {
      const Bytes& new_leaf = operands[num_leaves + i];
      const size_t size = new_leaf.size() / count;
      take = take && IsFinite(call.operands[i].dtype,
                              new_leaf.data() + at * size, size);
    }
    results[0][at] = take ? 1 : 0;
    for (size_t i = 1; i <= num_leaves && take; ++i) {
      const Bytes& new_leaf = operands[num_leaves + i];
      const size_t size = new_leaf.size() / count;
      std::copy(new_leaf.begin() + at * size,
                new_leaf.begin() + (at + 1) * size,
                results[i].begin() + at * size);
    }
  }
  return results;
}

void Run(FuzzInput& input) {
  Call call = RightCall(input);
  if (input.TakeBool()) {
    for (size_t i = input.TakeUpTo(3); i > 0; --i) {
      Spoil(input, input.TakeBool() ? call.operands : call.results);
    }
  }

  std::vector<TestBuffer> buffers;
  for (const std::vector<Array>* arrays : {&call.operands, &call.results}) {
    for (const Array& array : *arrays) {
      buffers.emplace_back(array.dtype, array.dims);
    }
  }
  // Impossible dimensions are welcome, but not possible ones that are too large
  // to have memory for.
  bool are_possible = true;
  for (const TestBuffer& buffer : buffers) {
    if (buffer.is_real()) continue;
    if (ElementCount(buffer.dims()).has_value()) return;
    are_possible = false;
  }

  std::vector<Memory> operands;
  std::vector<Memory> results;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool is_operand = i < call.operands.size();
    if (is_operand) FillOperand(input, buffers[i]);
    (is_operand ? operands : results)
        .push_back({buffers[i].bytes(), buffers[i].size()});
  }
  if (!operands.empty()) {
    for (size_t i = 0; i < operands[0].size; ++i) operands[0].data[i] &= 1;
  }
  // Leaves in place, and sometimes a result in any memory that is large enough.
  for (size_t i = 1; i < std::min(operands.size(), results.size()); ++i) {
    if (input.TakeBool() && operands[i].size == results[i].size) {
      results[i].data = operands[i].data;
    }
  }
  if (!results.empty() && input.TakeUpTo(3) == 0) {
    Memory& result = results[input.TakeUpTo(15) % results.size()];
    const TestBuffer& other = buffers[input.TakeUpTo(31) % buffers.size()];
    if (other.size() >= result.size) {
      result.data = other.bytes() +
                    input.TakeUpTo(255) % (other.size() - result.size + 1);
    }
  }

  FakeThreadPool pool(
      static_cast<int64_t>(input.TakeUpTo(6)),
      input.TakeOneOf({Tasks::kInline, Tasks::kLate, Tasks::kOnThreads}));
  FakeCall fake;
  if (input.TakeBool()) fake.Threads(&pool);
  std::vector<Bytes> operands_before;
  for (size_t i = 0; i < operands.size(); ++i) {
    fake.Operand(call.operands[i].dtype, call.operands[i].dims,
                 operands[i].data);
    operands_before.push_back(BytesIn(operands[i]));
  }
  std::vector<Bytes> results_before;
  for (size_t i = 0; i < results.size(); ++i) {
    fake.Result(call.results[i].dtype, call.results[i].dims, results[i].data);
    results_before.push_back(BytesIn(results[i]));
  }
  const std::optional<CallError> error = fake.Run(FlaxlayerStateMerge);
  pool.Finish();
  const bool is_right = IsRight(call);
  if (error.has_value()) {
    FUZZ_CHECK(!is_right || !are_possible || !AreApart(operands, results));
    FUZZ_CHECK(error->code == XLA_FFI_Error_Code_INVALID_ARGUMENT);
    FUZZ_CHECK(!error->message.empty());
    for (size_t i = 0; i < results.size(); ++i) {
      FUZZ_CHECK(BytesIn(results[i]) == results_before[i]);
    }
  } else {
    FUZZ_CHECK(is_right && AreApart(operands, results));
    if (are_possible) {
      const std::vector<Bytes> expected = Expected(call, operands_before);
      for (size_t i = 0; i < results.size(); ++i) {
        FUZZ_CHECK(BytesIn(results[i]) == expected[i]);
      }
    }
  }
  // What no result is in is not written.
  for (size_t i = 0; i < operands.size(); ++i) {
    const bool is_written = std::any_of(
        results.begin(), results.end(),
        [&](const Memory& result) { return result.Overlaps(operands[i]); });
    if (!is_written) FUZZ_CHECK(BytesIn(operands[i]) == operands_before[i]);
  }
}

}  // namespace
}  // namespace flaxlayer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  flaxlayer::FuzzInput input(data, size);
  flaxlayer::Run(input);
  return 0;
}
