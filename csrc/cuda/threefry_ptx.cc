#include "csrc/cuda/threefry_ptx.h"

#include "csrc/kernels/threefry.h"

namespace flaxlayer {
namespace {

// The cipher, of the block in x0 and x1. A rotation is a funnel shift.
#define FLAXLAYER_ROUND(distance)              \
  "  add.u32 %x0, %x0, %x1;\n"                 \
  "  shf.l.wrap.b32 %x1, %x1, %x1, " #distance \
  ";\n"                                        \
  "  xor.b32 %x1, %x1, %x0;\n"
#define FLAXLAYER_INJECT(to_x0, to_x1, count) \
  "  add.u32 %x0, %x0, %" #to_x0              \
  ";\n"                                       \
  "  add.u32 %x1, %x1, %" #to_x1              \
  ";\n"                                       \
  "  add.u32 %x1, %x1, " #count ";\n"

// A kernel. BLOCK puts index i into x0 and x1, and STORE writes what became of
// them for it, to the address in %at.
#define FLAXLAYER_KERNEL(NAME, PARAMETERS, BLOCK, SHIFT, STORE) \
  ".visible .entry " NAME                                                 \
  "(\n"                                                                   \
  "  .param .u64 keys, .param .u64 out,\n"                                \
  "  .param .u64 per_key, .param .u64 num_keys" PARAMETERS                \
  "\n)\n"                                                                 \
  "{\n"                                                                   \
  "  .reg .pred %done;\n"                                                 \
  "  .reg .b32 %k0, %k1, %k2, %x0, %x1, %block, %threads, %thread;\n"     \
  "  .reg .b64 %keys, %out, %data, %per_key, %num_keys;\n"                \
  "  .reg .b64 %key, %key_step, %first, %step, %i, %from, %at;\n"         \
  "  ld.param.u64 %keys, [keys];\n"                                       \
  "  ld.param.u64 %out, [out];\n"                                         \
  "  ld.param.u64 %per_key, [per_key];\n"                                 \
  "  ld.param.u64 %num_keys, [num_keys];\n"                               \
  "  cvta.to.global.u64 %keys, %keys;\n"                                  \
  "  cvta.to.global.u64 %out, %out;\n"                                    \
  "  mov.u32 %block, %ctaid.x;\n"                                         \
  "  mov.u32 %threads, %ntid.x;\n"                                        \
  "  mov.u32 %thread, %tid.x;\n"                                          \
  "  cvt.u64.u32 %first, %thread;\n"                                      \
  "  mad.wide.u32 %first, %block, %threads, %first;\n"                    \
  "  mov.u32 %block, %nctaid.x;\n"                                        \
  "  mul.wide.u32 %step, %block, %threads;\n"                             \
  "  mov.u32 %block, %ctaid.y;\n"                                         \
  "  mov.u32 %threads, %ntid.y;\n"                                        \
  "  mov.u32 %thread, %tid.y;\n"                                          \
  "  cvt.u64.u32 %key, %thread;\n"                                        \
  "  mad.wide.u32 %key, %block, %threads, %key;\n"                        \
  "  mov.u32 %block, %nctaid.y;\n"                                        \
  "  mul.wide.u32 %key_step, %block, %threads;\n"                         \
  "NEXT_KEY:\n"                                                           \
  "  setp.ge.u64 %done, %key, %num_keys;\n"                               \
  "  @%done bra ALL_DONE;\n"                                              \
  "  shl.b64 %at, %key, 3;\n"                                             \
  "  add.u64 %at, %keys, %at;\n"                                          \
  "  ld.global.v2.u32 {%k0, %k1}, [%at];\n"                               \
  "  xor.b32 %k2, %k0, %k1;\n"                                            \
  "  xor.b32 %k2, %k2, 0x1BD11BDA;\n"                                     \
  "  mul.lo.u64 %from, %key, %per_key;\n"                                 \
  "  mov.u64 %i, %first;\n"                                               \
  "NEXT_INDEX:\n"                                                         \
  "  setp.ge.u64 %done, %i, %per_key;\n"                                  \
  "  @%done bra KEY_DONE;\n" BLOCK FLAXLAYER_THREEFRY2X32(                \
      FLAXLAYER_ROUND, FLAXLAYER_INJECT, k0, k1, k2)                      \
  "  add.u64 %at, %from, %i;\n"                                           \
  "  shl.b64 %at, %at, " SHIFT ";\n"                                      \
  "  add.u64 %at, %out, %at;\n" STORE                                     \
  "  add.u64 %i, %i, %step;\n"                                            \
  "  bra NEXT_INDEX;\n"                                                   \
  "KEY_DONE:\n"                                                           \
  "  add.u64 %key, %key, %key_step;\n"                                    \
  "  bra NEXT_KEY;\n"                                                     \
  "ALL_DONE:\n"                                                           \
  "  ret;\n"                                                              \
  "}\n"

#define FLAXLAYER_OF_INDEX "  mov.b64 {%x1, %x0}, %i;\n"
#define FLAXLAYER_OF_DATA                \
  "  ld.param.u64 %data, [data];\n"      \
  "  cvta.to.global.u64 %data, %data;\n" \
  "  add.u64 %at, %from, %i;\n"          \
  "  shl.b64 %at, %at, 2;\n"             \
  "  add.u64 %at, %data, %at;\n"         \
  "  ld.global.u32 %x1, [%at];\n"        \
  "  mov.u32 %x0, 0;\n"
#define FLAXLAYER_STORE_BLOCK "  st.global.v2.u32 [%at], {%x0, %x1};\n"
#define FLAXLAYER_STORE_PAIR "  st.global.v2.u32 [%at], {%x1, %x0};\n"
#define FLAXLAYER_STORE_WORD(TYPE) \
  "  xor.b32 %x0, %x0, %x1;\n"     \
  "  st.global." TYPE " [%at], %x0;\n"

}  // namespace

// Version and target are the oldest that JAX's own builds can meet; the driver
// compiles for newer cards what it is given for older ones.
const char kThreefryPtx[] =
    ".version 7.0\n"
    ".target sm_50\n"
    ".address_size 64\n"
    // clang-format off
    FLAXLAYER_KERNEL("flaxlayer_fold_in", ", .param .u64 data",
                     FLAXLAYER_OF_DATA, "3", FLAXLAYER_STORE_BLOCK)
    FLAXLAYER_KERNEL("flaxlayer_random_bits8", "",
                     FLAXLAYER_OF_INDEX, "0", FLAXLAYER_STORE_WORD("u8"))
    FLAXLAYER_KERNEL("flaxlayer_random_bits16", "",
                     FLAXLAYER_OF_INDEX, "1", FLAXLAYER_STORE_WORD("u16"))
    FLAXLAYER_KERNEL("flaxlayer_random_bits32", "",
                     FLAXLAYER_OF_INDEX, "2", FLAXLAYER_STORE_WORD("u32"))
    FLAXLAYER_KERNEL("flaxlayer_random_bits64", "",
                     FLAXLAYER_OF_INDEX, "3", FLAXLAYER_STORE_PAIR)
    FLAXLAYER_KERNEL("flaxlayer_random_split", "",
                     FLAXLAYER_OF_INDEX, "3", FLAXLAYER_STORE_BLOCK);
// clang-format on

}  // namespace flaxlayer
