// The handlers of random numbers, called as a program might that XLA did not
// compile: with any number of operands and results of any types and shapes.
//
// A call is made up that is right, and then spoilt in up to three places.
// Whether it is right still is decided here in other words than the handlers':
// if so, they have to return what the scalar functions compute, or else an
// error.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

#include "csrc/ffi/fold_in.h"
#include "csrc/ffi/random_words.h"
#include "csrc/ffi/rng_fold.h"
#include "csrc/kernels/threefry.h"
#include "tests/csrc/ffi/test_buffer.h"
#include "tests/csrc/kernels/random_words_reference.h"
#include "tests/fuzz/fuzz_arrays.h"
#include "tests/fuzz/fuzz_call.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/fuzz_words.h"

namespace flaxlayer {
namespace {

enum class Handler {
  kBits,
  kSplit,
  kFoldIn,
  kRngFold,
};

constexpr Handler kHandlers[] = {
    Handler::kBits,
    Handler::kSplit,
    Handler::kFoldIn,
    Handler::kRngFold,
};

HandlerCall RightCall(FuzzInput& input, Handler handler) {
  const Dims leading = TakeDims(input);
  Dims shape = TakeDims(input);
  // Sometimes enough for several threads.
  if (input.TakeUpTo(15) == 0) {
    shape.push_back(static_cast<int64_t>(input.TakeUpTo(20000)));
  }
  const Array keys = {XLA_FFI_DataType_U32, Concatenated(leading, {2})};
  const Array data = {XLA_FFI_DataType_U32, leading};
  switch (handler) {
    case Handler::kBits:
      return {{keys},
              {{input.TakeOneOf(kWordTypes), Concatenated(leading, shape)}},
              {}};
    case Handler::kSplit:
      return {{keys},
              {{XLA_FFI_DataType_U32,
                Concatenated(Concatenated(leading, shape), {2})}},
              {}};
    case Handler::kFoldIn:
      return {{keys, data}, {keys}, {}};
    case Handler::kRngFold:
      break;
  }
  std::vector<uint32_t> tags(input.TakeUpTo(8));
  for (uint32_t& tag : tags) tag = input.Take<uint32_t>();
  const int64_t count = static_cast<int64_t>(tags.size());
  return {{keys},
          {{XLA_FFI_DataType_U32, Concatenated(leading, {count, 2})}},
          {ArrayAttribute("tags", XLA_FFI_DataType_U32, tags)}};
}

bool IsRight(Handler handler, const HandlerCall& call) {
  const bool has_data = handler == Handler::kFoldIn;
  if (call.operands.size() != (has_data ? 2 : 1)) return false;
  if (call.results.size() != 1) return false;

  const Array& keys = call.operands[0];
  if (keys.dtype != XLA_FFI_DataType_U32) return false;
  if (keys.dims.empty() || keys.dims.back() != 2) return false;
  const Dims leading(keys.dims.begin(), keys.dims.end() - 1);
  if (has_data && (call.operands[1].dtype != XLA_FFI_DataType_U32 ||
                   call.operands[1].dims != leading)) {
    return false;
  }

  if (handler == Handler::kRngFold) {
    if (call.attributes.size() != 1) return false;
    const Attribute& attribute = call.attributes[0];
    if (attribute.name != "tags" || !attribute.is_array ||
        attribute.dtype != XLA_FFI_DataType_U32) {
      return false;
    }
  }

  const Array& result = call.results[0];
  switch (handler) {
    case Handler::kBits:
      return std::count(std::begin(kWordTypes), std::end(kWordTypes),
                        result.dtype) == 1 &&
             BeginWith(result.dims, leading);
    case Handler::kSplit:
      return result.dtype == XLA_FFI_DataType_U32 &&
             result.dims.size() > leading.size() && result.dims.back() == 2 &&
             BeginWith(result.dims, leading);
    case Handler::kFoldIn:
      return result.dtype == XLA_FFI_DataType_U32 && result.dims == keys.dims;
    case Handler::kRngFold:
      break;
  }
  const int64_t num_tags = static_cast<int64_t>(call.attributes[0].size);
  return result.dtype == XLA_FFI_DataType_U32 &&
         result.dims == Concatenated(leading, {num_tags, 2});
}

ThreefryKey FoldedIn(ThreefryKey key, uint32_t datum) {
  const ThreefryBlock block = Threefry2x32(key, {0, datum});
  return {block.x0, block.x1};
}

// The result of a call that is right.
void ExpectResult(Handler handler, const HandlerCall& call,
                  const std::vector<TestBuffer>& operands,
                  const TestBuffer& result) {
  std::vector<ThreefryKey> keys = KeysOf(operands[0]);
  const auto same = [](size_t i) { return uint64_t{i}; };
  std::vector<uint32_t> expected;
  switch (handler) {
    case Handler::kBits:
      return ExpectBits(keys, result, same);
    case Handler::kSplit:
      return ExpectWords(Blocks{}, keys, result, same);
    case Handler::kFoldIn: {
      const std::vector<uint32_t> data = operands[1].Elements<uint32_t>();
      for (size_t i = 0; i < keys.size(); ++i) {
        const ThreefryKey folded = FoldedIn(keys[i], data[i]);
        expected.insert(expected.end(), {folded.k0, folded.k1});
      }
      break;
    }
    case Handler::kRngFold:
      for (const ThreefryKey& key : keys) {
        for (const uint32_t tag : call.attributes[0].Values<uint32_t>()) {
          const ThreefryKey folded = FoldedIn(key, tag);
          expected.insert(expected.end(), {folded.k0, folded.k1});
        }
      }
  }
  FUZZ_CHECK(result.Elements<uint32_t>() == expected);
}

XLA_FFI_Handler* FunctionOf(Handler handler) {
  switch (handler) {
    case Handler::kBits:
      return FlaxlayerRandomBits;
    case Handler::kSplit:
      return FlaxlayerRandomSplit;
    case Handler::kFoldIn:
      return FlaxlayerFoldIn;
    case Handler::kRngFold:
      break;
  }
  return FlaxlayerRngFold;
}

void Run(FuzzInput& input) {
  const Handler handler = input.TakeOneOf(kHandlers);
  HandlerCall call = RightCall(input, handler);
  for (size_t i = input.TakeUpTo(3); i > 0; --i) Spoil(input, call);
  CheckCall(
      input, FunctionOf(handler), call,
      [&](const std::vector<TestBuffer>&) { return IsRight(handler, call); },
      [&](const std::vector<TestBuffer>& operands, const TestBuffer& result) {
        ExpectResult(handler, call, operands, result);
      });
}

}  // namespace
}  // namespace flaxlayer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  flaxlayer::FuzzInput input(data, size);
  flaxlayer::Run(input);
  return 0;
}
