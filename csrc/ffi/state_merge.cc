#include "csrc/ffi/state_merge.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "csrc/ffi/dimensions.h"
#include "csrc/ffi/parallel.h"
#include "csrc/kernels/state_merge.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

// Bytes in a part that is worth a thread of its own. To look at and to copy as
// many takes some 100 us; with two threads it takes longer for less than 2 MiB,
// and from 3 MiB on two thirds of the time.
constexpr size_t kGrain = size_t{1} << 21;

// Parts begin in a leaf at a multiple of this, and so at an element.
constexpr size_t kAlignment = 64;
static_assert(kGrain % kAlignment == 0, "the grain is of whole elements");

struct ElementType {
  const char* name;
  size_t width;  // 0 if leaves of this type cannot be merged here.
  std::optional<FloatFormat> format;
};

ElementType TypeOf(const ffi::AnyBuffer& buffer) {
  switch (buffer.element_type()) {
    case ffi::PRED:
      return {"pred", 1, std::nullopt};
    case ffi::S8:
      return {"s8", 1, std::nullopt};
    case ffi::S16:
      return {"s16", 2, std::nullopt};
    case ffi::S32:
      return {"s32", 4, std::nullopt};
    case ffi::S64:
      return {"s64", 8, std::nullopt};
    case ffi::U8:
      return {"u8", 1, std::nullopt};
    case ffi::U16:
      return {"u16", 2, std::nullopt};
    case ffi::U32:
      return {"u32", 4, std::nullopt};
    case ffi::U64:
      return {"u64", 8, std::nullopt};
    case ffi::F16:
      return {"f16", 2, FloatFormat::kF16};
    case ffi::BF16:
      return {"bf16", 2, FloatFormat::kBF16};
    case ffi::F32:
      return {"f32", 4, FloatFormat::kF32};
    case ffi::F64:
      return {"f64", 8, FloatFormat::kF64};
    case ffi::C64:
      return {"c64", 8, FloatFormat::kF32};
    case ffi::C128:
      return {"c128", 16, FloatFormat::kF64};
    default:
      return {"", 0, std::nullopt};
  }
}

std::string Description(const ffi::AnyBuffer& buffer) {
  std::string type = TypeOf(buffer).name;
  if (type.empty()) {
    type = "XLA_FFI_DataType " +
           std::to_string(static_cast<int>(buffer.element_type()));
  }
  return ShapeString(type.c_str(), buffer.dimensions());
}

// The number of bytes of a buffer of a type from above; false if there is none.
bool SizeOf(const ffi::AnyBuffer& buffer, size_t* size) {
  const Dimensions dims = buffer.dimensions();
  const size_t width = TypeOf(buffer).width;
  size_t elements = 0;
  if (!Product(dims, 0, dims.size(), &elements) ||
      elements > std::numeric_limits<size_t>::max() / width) {
    return false;
  }
  *size = elements * width;
  return true;
}

bool SameTypeAndShape(const ffi::AnyBuffer& a, const ffi::AnyBuffer& b) {
  return a.element_type() == b.element_type() &&
         a.dimensions().size() == b.dimensions().size() &&
         BeginWith(a.dimensions(), b.dimensions());
}

unsigned char* BytesOf(const ffi::AnyBuffer& buffer) {
  return static_cast<unsigned char*>(buffer.untyped_data());
}

// A place in memory. Its address is a number: those of pointers to different
// objects have no order, and no sum is known to be an address.
struct Extent {
  uintptr_t begin;
  size_t size;

  Extent(const unsigned char* data, size_t size)
      : begin(reinterpret_cast<uintptr_t>(data)), size(size) {}

  bool Overlaps(const Extent& other) const {
    // What is empty may be anywhere.
    return size > 0 && other.size > 0 &&
           (other.begin - begin < size || begin - other.begin < other.size);
  }
};

// A leaf, decoded and checked.
struct Leaf {
  const unsigned char* old_data;
  const unsigned char* new_data;
  unsigned char* merged;
  size_t size;  // In bytes, of each of the three.
  // What one element of update decides on: how many bytes, and where they begin
  // among those of all leaves, one after the other and padded.
  size_t part_size;
  size_t part_begin;
  std::optional<FloatFormat> format;
};

struct Leaves {
  size_t count = 0;      // The elements of update.
  size_t part_size = 0;  // The bytes that each decides on, with padding.
  std::vector<Leaf> all;
};

ffi::Error Invalid(const std::string& text) {
  return ffi::Error::InvalidArgument("flaxlayer_state_merge: " + text);
}

// Where the next leaf begins.
size_t Padded(size_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

ffi::Error Decode(const ffi::AnyBuffer& update,
                  const ffi::RemainingArgs& operands,
                  const ffi::AnyBuffer& taken,
                  const ffi::RemainingRets& results, Leaves* leaves) {
  const Dimensions outer = update.dimensions();
  if (update.element_type() != ffi::PRED || !SameTypeAndShape(update, taken) ||
      !SizeOf(update, &leaves->count)) {
    return Invalid(
        "the first operand and the first result must be pred[...] with the "
        "same dimensions, got " +
        Description(update) + " and " + Description(taken));
  }
  const size_t num_leaves = results.size();
  if (operands.size() != 2 * num_leaves) {
    return Invalid("there must be as many old and new leaves as merged ones, " +
                   std::to_string(2 * num_leaves) + " in all, got " +
                   std::to_string(operands.size()));
  }

  leaves->all.clear();
  leaves->part_size = 0;
  for (size_t i = 0; i < num_leaves; ++i) {
    const auto old_leaf = operands.get<ffi::AnyBuffer>(i);
    const auto new_leaf = operands.get<ffi::AnyBuffer>(num_leaves + i);
    auto merged = results.get<ffi::AnyBuffer>(i);
    if (!old_leaf || !new_leaf || !merged) {
      return Invalid("leaf " + std::to_string(i) + " is no buffer");
    }
    const ElementType type = TypeOf(*old_leaf);
    size_t size = 0;
    if (type.width == 0 || !SameTypeAndShape(*old_leaf, *new_leaf) ||
        !SameTypeAndShape(*old_leaf, **merged) ||
        !BeginWith(old_leaf->dimensions(), outer) ||
        !SizeOf(*old_leaf, &size)) {
      return Invalid(
          "an old, a new and a merged leaf must have the same type, one that "
          "can be merged, and the same dimensions, beginning with those of " +
          Description(update) + ", got " + Description(*old_leaf) + ", " +
          Description(*new_leaf) + " and " + Description(**merged) +
          " for leaf " + std::to_string(i));
    }
    const size_t part_size = leaves->count == 0 ? 0 : size / leaves->count;
    constexpr size_t kMax = std::numeric_limits<size_t>::max();
    if (part_size > kMax - kAlignment ||
        Padded(part_size) > kMax - leaves->part_size) {
      return Invalid("the leaves are larger than memory can be");
    }
    leaves->all.push_back({BytesOf(*old_leaf), BytesOf(*new_leaf),
                           BytesOf(**merged), size, part_size,
                           leaves->part_size, type.format});
    leaves->part_size += Padded(part_size);
  }
  return ffi::Error::Success();
}

// Whether results share no memory with operands or each other, but for merged
// leaves in the buffers of their old ones.
//
// There is little to see for those: XLA lets an operand be overwritten only
// where nothing else is in its buffer. Programs of flaxlayer have no others.
bool AreApart(const Extent& update, const Extent& taken,
              const std::vector<Leaf>& leaves) {
  if (taken.Overlaps(update)) return false;
  for (const Leaf& leaf : leaves) {
    const Extent merged(leaf.merged, leaf.size);
    const Extent new_leaf(leaf.new_data, leaf.size);
    if (taken.Overlaps({leaf.old_data, leaf.size}) ||
        taken.Overlaps(new_leaf) || merged.Overlaps(taken) ||
        merged.Overlaps(update) || merged.Overlaps(new_leaf)) {
      return false;
    }
    if (leaf.merged == leaf.old_data) continue;
    for (const Leaf& other : leaves) {
      if (merged.Overlaps({other.old_data, other.size}) ||
          merged.Overlaps({other.new_data, other.size}) ||
          (&other != &leaf && merged.Overlaps({other.merged, other.size}))) {
        return false;
      }
    }
  }
  return true;
}

// Calls visit(leaf, begin, end) for pieces of leaves, bytes from `begin` to
// `end`, which make up all that the element `at` of update decides on. They are
// on several threads if there is much to do.
template <typename Visit>
void ForPieces(ffi::ThreadPool pool, const Leaves& leaves, size_t at,
               const Visit& visit) {
  ParallelFor(pool, leaves.part_size, kGrain, [&](size_t begin, size_t end) {
    // The last leaf that begins no later.
    auto leaf = std::upper_bound(
        leaves.all.begin(), leaves.all.end(), begin,
        [](size_t value, const Leaf& leaf) { return value < leaf.part_begin; });
    for (--leaf; leaf != leaves.all.end() && leaf->part_begin < end; ++leaf) {
      const size_t first = std::max(begin, leaf->part_begin) - leaf->part_begin;
      const size_t last = std::min(end - leaf->part_begin, leaf->part_size);
      if (first >= last) continue;
      const size_t offset = at * leaf->part_size;
      visit(*leaf, offset + first, offset + last);
    }
  });
}

// Whether all numbers are finite that the element `at` of update decides on.
bool AllNewFinite(ffi::ThreadPool pool, const Leaves& leaves, size_t at) {
  std::atomic<bool> finite{true};
  ForPieces(
      pool, leaves, at, [&finite](const Leaf& leaf, size_t begin, size_t end) {
        if (!leaf.format || !finite.load(std::memory_order_relaxed)) {
          return;
        }
        if (!AllFinite(*leaf.format, leaf.new_data + begin, end - begin)) {
          finite.store(false, std::memory_order_relaxed);
        }
      });
  return finite.load(std::memory_order_relaxed);
}

void Store(ffi::ThreadPool pool, const Leaves& leaves, size_t at, bool take) {
  ForPieces(pool, leaves, at,
            [take](const Leaf& leaf, size_t begin, size_t end) {
              const unsigned char* from = take ? leaf.new_data : leaf.old_data;
              // Old ones are often there already.
              if (from == leaf.merged) return;
              std::memcpy(leaf.merged + begin, from + begin, end - begin);
            });
}

ffi::Error StateMerge(ffi::ThreadPool pool, ffi::AnyBuffer update,
                      ffi::RemainingArgs operands,
                      ffi::Result<ffi::AnyBuffer> taken,
                      ffi::RemainingRets results) {
  // Kept for the next call, which then allocates nothing. No other call can be
  // made on this thread before this one returns.
  static thread_local Leaves leaves;
  ffi::Error error = Decode(update, operands, *taken, results, &leaves);
  if (error.failure()) return error;
  const unsigned char* updates = BytesOf(update);
  unsigned char* verdicts = BytesOf(*taken);
  if (!AreApart({updates, leaves.count}, {verdicts, leaves.count},
                leaves.all)) {
    return Invalid(
        "results must share no memory with operands or each other, "
        "but for merged leaves in the buffers of the old ones");
  }

  for (size_t at = 0; at < leaves.count; ++at) {
    // Nothing is written before everything has been looked at.
    const bool take = updates[at] != 0 && AllNewFinite(pool, leaves, at);
    Store(pool, leaves, at, take);
    verdicts[at] = take;
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace flaxlayer

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerStateMerge, flaxlayer::StateMerge,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .RemainingRets());
