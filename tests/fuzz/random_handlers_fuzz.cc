// The handlers of random numbers, called as a program might that XLA did not
// compile: with any number of operands and results of any types and shapes.
//
// A call is made up that is right, and then spoilt in up to three places.
// Whether it is right still is decided here in other words than the handlers':
// if so, they have to return what the scalar functions compute, or else an
// error. What XLA does guarantee holds: a buffer has as many bytes as its type
// and dimensions say. For dimensions that no buffer can have there is none.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "csrc/ffi/fold_in.h"
#include "csrc/ffi/random_words.h"
#include "csrc/ffi/rng_fold.h"
#include "csrc/kernels/threefry.h"
#include "tests/csrc/ffi/call_frame.h"
#include "tests/csrc/ffi/fake_api.h"
#include "tests/csrc/ffi/test_buffer.h"
#include "tests/csrc/kernels/random_words_reference.h"
#include "tests/fuzz/fuzz_arrays.h"
#include "tests/fuzz/fuzz_input.h"

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

constexpr XLA_FFI_DataType kWordTypes[] = {
    XLA_FFI_DataType_U8, XLA_FFI_DataType_U16, XLA_FFI_DataType_U32,
    XLA_FFI_DataType_U64};

struct Attribute {
  std::string name;
  bool is_array;
  XLA_FFI_DataType dtype;
  std::vector<uint32_t> values;  // The first one alone if it is no array.
};

struct Call {
  Handler handler;
  std::vector<Array> operands;
  std::vector<Array> results;
  std::vector<Attribute> attributes;
};

Dims Concatenated(Dims dims, const Dims& more) {
  dims.insert(dims.end(), more.begin(), more.end());
  return dims;
}

Call RightCall(FuzzInput& input) {
  const Handler handler = input.TakeOneOf(kHandlers);
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
      return {handler,
              {keys},
              {{input.TakeOneOf(kWordTypes), Concatenated(leading, shape)}},
              {}};
    case Handler::kSplit:
      return {handler,
              {keys},
              {{XLA_FFI_DataType_U32,
                Concatenated(Concatenated(leading, shape), {2})}},
              {}};
    case Handler::kFoldIn:
      return {handler, {keys, data}, {keys}, {}};
    case Handler::kRngFold:
      break;
  }
  Attribute tags = {"tags", true, XLA_FFI_DataType_U32, {}};
  tags.values.resize(input.TakeUpTo(8));
  for (uint32_t& tag : tags.values) tag = input.Take<uint32_t>();
  const int64_t count = static_cast<int64_t>(tags.values.size());
  return {Handler::kRngFold,
          {keys},
          {{XLA_FFI_DataType_U32, Concatenated(leading, {count, 2})}},
          {tags}};
}

// Not for a handler without attributes: whether it ignores those that it is
// given depends on the version of XLA's headers.
void Spoil(FuzzInput& input, std::vector<Attribute>& attributes) {
  if (attributes.empty()) return;
  switch (input.Take<uint8_t>() % 4) {
    case 0:
      attributes.clear();
      break;
    case 1:
      attributes[0].name = "other";
      break;
    case 2:
      attributes[0].dtype = input.TakeOneOf(kTypes);
      break;
    default:
      attributes[0].is_array = !attributes[0].is_array;
      attributes[0].values.resize(2);
  }
}

bool BeginWith(const Dims& dims, const Dims& first) {
  return dims.size() >= first.size() &&
         std::equal(first.begin(), first.end(), dims.begin());
}

bool IsRight(const Call& call) {
  const bool has_data = call.handler == Handler::kFoldIn;
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

  if (call.handler == Handler::kRngFold) {
    if (call.attributes.size() != 1) return false;
    const Attribute& attribute = call.attributes[0];
    if (attribute.name != "tags" || !attribute.is_array ||
        attribute.dtype != XLA_FFI_DataType_U32) {
      return false;
    }
  }

  const Array& result = call.results[0];
  switch (call.handler) {
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
  const int64_t num_tags =
      static_cast<int64_t>(call.attributes[0].values.size());
  return result.dtype == XLA_FFI_DataType_U32 &&
         result.dims == Concatenated(leading, {num_tags, 2});
}

template <typename Kind>
void ExpectWords(Kind kind, const std::vector<ThreefryKey>& keys,
                 const TestBuffer& result) {
  using Element = typename Kind::Element;
  if (result.size() == 0) return;
  const size_t per_key =
      result.size() / sizeof(Element) / Kind::kPerBlock / keys.size();
  const unsigned char* at = result.bytes();
  for (const ThreefryKey& key : keys) {
    const std::vector<Element> words = ExpectedWords(kind, key, 0, per_key);
    FUZZ_CHECK(std::memcmp(at, words.data(),
                           per_key * sizeof(Element) * Kind::kPerBlock) == 0);
    at += per_key * sizeof(Element) * Kind::kPerBlock;
  }
  FUZZ_CHECK(at == result.bytes() + result.size());
}

ThreefryKey FoldedIn(ThreefryKey key, uint32_t datum) {
  const ThreefryBlock block = Threefry2x32(key, {0, datum});
  return {block.x0, block.x1};
}

// The result of a call that is right.
void ExpectResult(const Call& call, const std::vector<TestBuffer>& operands,
                  const TestBuffer& result) {
  const std::vector<uint32_t> words = operands[0].Elements<uint32_t>();
  std::vector<ThreefryKey> keys;
  for (size_t i = 0; i < words.size(); i += 2) {
    keys.push_back({words[i], words[i + 1]});
  }
  if (operands.size() == 2) {
    const std::vector<uint32_t> data = operands[1].Elements<uint32_t>();
    for (size_t i = 0; i < keys.size(); ++i) {
      keys[i] = FoldedIn(keys[i], data[i]);
    }
  }
  std::vector<uint32_t> expected;
  switch (call.handler) {
    case Handler::kBits:
      switch (result.dtype()) {
        case XLA_FFI_DataType_U8:
          return ExpectWords(Words8{}, keys, result);
        case XLA_FFI_DataType_U16:
          return ExpectWords(Words16{}, keys, result);
        case XLA_FFI_DataType_U32:
          return ExpectWords(Words32{}, keys, result);
        default:
          return ExpectWords(Words64{}, keys, result);
      }
    case Handler::kSplit:
      return ExpectWords(Blocks{}, keys, result);
    case Handler::kFoldIn:
      for (const ThreefryKey& key : keys) {
        expected.insert(expected.end(), {key.k0, key.k1});
      }
      break;
    case Handler::kRngFold:
      for (const ThreefryKey& key : keys) {
        for (const uint32_t tag : call.attributes[0].values) {
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
  Call call = RightCall(input);
  for (size_t i = input.TakeUpTo(3); i > 0; --i) {
    switch (input.Take<uint8_t>() % 4) {
      case 0:
        Spoil(input, call.attributes);
        break;
      case 1:
        Spoil(input, call.results);
        break;
      default:
        Spoil(input, call.operands);
    }
  }

  std::vector<TestBuffer> operands;
  for (const Array& array : call.operands) {
    operands.emplace_back(array.dtype, array.dims);
    uint32_t number = input.Take<uint32_t>();
    std::vector<uint32_t> numbers(operands.back().size() / sizeof(number));
    for (uint32_t& element : numbers) element = number *= 0x9e3779b1;
    operands.back().SetElements(numbers);
  }
  std::vector<TestBuffer> results;
  for (const Array& array : call.results) {
    results.emplace_back(array.dtype, array.dims);
  }
  // Impossible dimensions are welcome, but not possible ones that are too large
  // to have memory for.
  bool are_possible = true;
  for (const std::vector<TestBuffer>* buffers : {&operands, &results}) {
    for (const TestBuffer& buffer : *buffers) {
      if (buffer.is_real()) continue;
      if (ElementCount(buffer.dims()).has_value()) return;
      are_possible = false;
    }
  }

  FakeThreadPool pool(
      static_cast<int64_t>(input.TakeUpTo(6)),
      input.TakeOneOf({Tasks::kInline, Tasks::kLate, Tasks::kOnThreads}));
  FakeCall fake;
  if (input.TakeBool()) fake.Threads(&pool);
  // What is empty may be nowhere.
  const bool empty_is_null = input.TakeBool();
  const auto memory = [&](const TestBuffer& buffer) {
    return buffer.size() == 0 && empty_is_null ? nullptr : buffer.bytes();
  };
  std::vector<std::vector<uint8_t>> before;
  for (const TestBuffer& buffer : operands) {
    fake.Operand(buffer.dtype(), buffer.dims(), memory(buffer));
    before.push_back(buffer.Elements<uint8_t>());
  }
  for (const TestBuffer& buffer : results) {
    fake.Result(buffer.dtype(), buffer.dims(), memory(buffer));
  }
  for (Attribute& attribute : call.attributes) {
    // As much memory as the largest of the types asks for.
    attribute.values.reserve(4 * attribute.values.size() + 4);
    if (attribute.is_array) {
      fake.ArrayAttribute(attribute.name, attribute.dtype,
                          attribute.values.size(), attribute.values.data());
    } else {
      fake.ScalarAttribute(attribute.name, attribute.dtype,
                           attribute.values.data());
    }
  }

  const std::optional<CallError> error = fake.Run(FunctionOf(call.handler));
  pool.Finish();
  for (size_t i = 0; i < operands.size(); ++i) {
    FUZZ_CHECK(operands[i].Elements<uint8_t>() == before[i]);
  }
  if (error.has_value()) {
    FUZZ_CHECK(!IsRight(call) || !are_possible);
    FUZZ_CHECK(error->code == XLA_FFI_Error_Code_INVALID_ARGUMENT);
    FUZZ_CHECK(!error->message.empty());
    for (const TestBuffer& buffer : results) FUZZ_CHECK(buffer.is_untouched());
  } else {
    FUZZ_CHECK(IsRight(call));
    // It may be right with impossible keys as long as it makes nothing of them.
    if (!are_possible) {
      FUZZ_CHECK(results[0].size() == 0);
    } else {
      ExpectResult(call, operands, results[0]);
    }
  }
}

}  // namespace
}  // namespace flaxlayer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  flaxlayer::FuzzInput input(data, size);
  flaxlayer::Run(input);
  return 0;
}
