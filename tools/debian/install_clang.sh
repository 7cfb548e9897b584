#!/usr/bin/env bash
# Unpacks Debian's Clang and libFuzzer below a folder of its own.
#
#   tools/debian/install_clang.sh PREFIX
#
# For `tools/dev fuzz` on machines that have GCC only. The packages are those of
# the Debian that runs, so they use its C library, and the headers and libraries
# of its GCC; about 60 MB to download, 300 MB on disk.
#
# Needs apt, dpkg-deb and g++, and write access to PREFIX; not root.
# PREFIX/clang is the command; it is written last, so it exists only where
# everything worked.
set -euo pipefail

prefix=${1:?usage: install_clang.sh PREFIX}
here=$(cd "$(dirname "$0")" && pwd -P)
# shellcheck source=tools/debian/apt.sh
. "$here/apt.sh"

command -v g++ >/dev/null || fail "no g++"

# The compiler, its headers, the sanitizers, and the shared libraries they load.
wanted='^(clang-[0-9]+|libclang-(common|cpp|rt).*|libllvm.*|zlib1g'
wanted+='|lib(bsd|edit|ffi|icu|lzma|md|tinfo|xml2|z3-|zstd).*)$'
open_suite
version=$(dependencies clang | sed -n 's/^clang-\([0-9]*\)$/\1/p')
mapfile -t packages < <(
  dependencies clang "libclang-rt-$version-dev" | grep -E "$wanted"
)
install "$prefix" "${packages[@]}"

llvm=$prefix/usr/lib/llvm-$version
libs=$(dirname "$(find "$prefix/usr/lib" -name libz.so.1 -print -quit)")
cat >"$work/clang" <<CONF
#!/bin/sh
LD_LIBRARY_PATH="$libs:$llvm/lib" exec "$llvm/bin/clang" "\$@"
CONF
chmod +x "$work/clang"
"$work/clang" --version >/dev/null || fail "Clang does not run"
mv "$work/clang" "$prefix/clang"
