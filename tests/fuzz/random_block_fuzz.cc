// The handler of a part of the random words of an array, called as a program
// might that XLA did not compile; see random_handlers_fuzz.cc. The part may be
// anywhere in the whole, and beyond it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

#include "csrc/ffi/random_words.h"
#include "tests/csrc/ffi/test_buffer.h"
#include "tests/fuzz/fuzz_arrays.h"
#include "tests/fuzz/fuzz_call.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/fuzz_words.h"

namespace flaxlayer {
namespace {

// How much larger the whole is than the part: often not at all, and sometimes
// so much that indices have more than 32 bits, or wrap around at 64.
int64_t TakeMargin(FuzzInput& input) {
  switch (input.Take<uint8_t>() % 8) {
    case 0:
      return input.Take<uint32_t>();
    case 1:
      return input.Take<int64_t>() & (INT64_MAX >> 16);
    case 2:
    case 3:
    case 4:
      return static_cast<int64_t>(input.TakeUpTo(4));
    default:
      return 0;
  }
}

HandlerCall RightCall(FuzzInput& input) {
  const Dims leading = TakeDims(input);
  Dims part(input.TakeUpTo(3));
  for (int64_t& size : part) size = static_cast<int64_t>(input.TakeUpTo(5));
  // Sometimes enough for several threads.
  if (!part.empty() && input.TakeUpTo(31) == 0) {
    part[input.TakeUpTo(8) % part.size()] =
        static_cast<int64_t>(input.TakeUpTo(20000));
  }
  Dims whole;
  std::vector<uint32_t> offsets;
  for (const int64_t size : part) {
    const int64_t margin = TakeMargin(input);
    whole.push_back(size + margin);
    const uint64_t last = std::min<uint64_t>(margin, UINT32_MAX);
    // At the end, in case that is just within.
    offsets.push_back(static_cast<uint32_t>(
        input.TakeBool() ? last : input.Take<uint32_t>() % (last + 1)));
  }
  const int64_t rank = static_cast<int64_t>(part.size());
  return {{{XLA_FFI_DataType_U32, Concatenated(leading, {2})},
           {XLA_FFI_DataType_U32, {rank}, offsets}},
          {{input.TakeOneOf(kWordTypes), Concatenated(leading, part)}},
          {ArrayAttribute("whole", XLA_FFI_DataType_S64, whole)}};
}

// Moves the part, or makes the whole another one.
void SpoilPlace(FuzzInput& input, HandlerCall& call) {
  const size_t axis = input.TakeUpTo(8);
  if (input.TakeBool()) {
    if (call.operands.empty()) return;
    std::vector<uint32_t>& offsets = call.operands.back().values;
    if (offsets.empty()) return;
    uint32_t& offset = offsets[axis % offsets.size()];
    offset = input.TakeBool() ? offset + 1 : input.Take<uint32_t>();
    return;
  }
  if (call.attributes.empty()) return;
  Attribute& attribute = call.attributes[0];
  Dims whole = attribute.Values<int64_t>();
  switch (input.Take<uint8_t>() % 4) {
    case 0:
      whole.push_back(static_cast<int64_t>(input.TakeUpTo(4)));
      break;
    case 1:
      if (!whole.empty()) whole.pop_back();
      break;
    case 2:
      if (!whole.empty()) whole[axis % whole.size()] ^= 1;  // By one.
      break;
    default:
      if (!whole.empty()) whole[axis % whole.size()] = input.Take<int64_t>();
  }
  attribute.size = whole.size();
  attribute.data = ArrayAttribute("whole", XLA_FFI_DataType_S64, whole).data;
}

bool IsRight(const HandlerCall& call, const std::vector<TestBuffer>& operands) {
  if (call.operands.size() != 2 || call.results.size() != 1) return false;
  if (call.attributes.size() != 1) return false;
  const Attribute& attribute = call.attributes[0];
  if (attribute.name != "whole" || !attribute.is_array ||
      attribute.dtype != XLA_FFI_DataType_S64) {
    return false;
  }
  const Dims whole = attribute.Values<int64_t>();

  const Array& keys = call.operands[0];
  const Array& starts = call.operands[1];
  const Array& result = call.results[0];
  if (keys.dtype != XLA_FFI_DataType_U32 ||
      starts.dtype != XLA_FFI_DataType_U32 ||
      std::count(std::begin(kWordTypes), std::end(kWordTypes), result.dtype) !=
          1) {
    return false;
  }
  if (keys.dims.empty() || keys.dims.back() != 2) return false;
  const Dims leading(keys.dims.begin(), keys.dims.end() - 1);
  if (starts.dims != Dims{static_cast<int64_t>(whole.size())} ||
      result.dims.size() != leading.size() + whole.size() ||
      !BeginWith(result.dims, leading)) {
    return false;
  }
  const std::vector<uint32_t> offsets = operands[1].Elements<uint32_t>();
  for (size_t i = 0; i < whole.size(); ++i) {
    // Where the part begins, and how much there is from there on.
    if (offsets[i] > whole[i]) return false;
    if (result.dims[leading.size() + i] > whole[i] - offsets[i]) return false;
  }
  return true;
}

// The result of a call that is right.
void ExpectResult(const HandlerCall& call,
                  const std::vector<TestBuffer>& operands,
                  const TestBuffer& result) {
  const Dims whole = call.attributes[0].Values<int64_t>();
  const Dims part(result.dims().end() - static_cast<int64_t>(whole.size()),
                  result.dims().end());
  const std::vector<uint32_t> offsets = operands[1].Elements<uint32_t>();
  ExpectBits(KeysOf(operands[0]), result, [&](size_t i) {
    std::vector<uint64_t> at(whole.size());
    for (size_t axis = whole.size(); axis-- > 0;) {
      const size_t size = static_cast<size_t>(part[axis]);
      at[axis] = offsets[axis] + uint64_t{i % size};
      i /= size;
    }
    uint64_t index = 0;
    for (size_t axis = 0; axis < whole.size(); ++axis) {
      index = index * static_cast<uint64_t>(whole[axis]) + at[axis];
    }
    return index;
  });
}

void Run(FuzzInput& input) {
  HandlerCall call = RightCall(input);
  for (size_t i = input.TakeUpTo(3); i > 0; --i) {
    if (input.TakeBool()) {
      SpoilPlace(input, call);
    } else {
      Spoil(input, call);
    }
  }
  CheckCall(
      input, FlaxlayerRandomBlock, call,
      [&](const std::vector<TestBuffer>& operands) {
        return IsRight(call, operands);
      },
      [&](const std::vector<TestBuffer>& operands, const TestBuffer& result) {
        ExpectResult(call, operands, result);
      });
}

}  // namespace
}  // namespace flaxlayer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  flaxlayer::FuzzInput input(data, size);
  flaxlayer::Run(input);
  return 0;
}
