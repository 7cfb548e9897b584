#!/usr/bin/env bash
# Unpacks Debian's compiler for 64-bit ARM, and an emulator, below a folder.
#
#   tools/debian/install_arm.sh PREFIX
#
# For `tools/dev arm` on machines that are no ARM. The packages are those of the
# Debian that runs, so they use its C library; about 120 MB to download, 600 MB
# on disk.
#
# Needs apt and dpkg-deb, and write access to PREFIX; not root. PREFIX/bin has
# the compiler and what it links with, under the names that Bazel looks for;
# PREFIX/bin/run runs a program. It is written last, so it exists only where
# everything worked.
set -euo pipefail

prefix=${1:?usage: install_arm.sh PREFIX}
here=$(cd "$(dirname "$0")" && pwd -P)
# shellcheck source=tools/debian/apt.sh
. "$here/apt.sh"

# The compiler, libraries for ARM, the emulator, which is one static file for
# each processor, and the shared libraries that the compiler loads.
wanted='^(.*aarch64-linux-gnu.*|.*-arm64-cross|qemu-user-static|zlib1g'
wanted+='|lib(binutils|gmp|isl|jansson|mpc|mpfr|zstd).*)$'
open_suite
mapfile -t packages < <(
  dependencies g++-aarch64-linux-gnu qemu-user-static | grep -E "$wanted"
)
install "$prefix" "${packages[@]}"
mkdir "$prefix/bin"

libs=$(dirname "$(find "$prefix/usr/lib" -name libmpc.so.3 -print -quit)")
tool() { # NAME OF-DEBIAN [FIRST ARGUMENT]
  cat >"$prefix/bin/$1" <<CONF
#!/bin/sh
LD_LIBRARY_PATH="$libs" exec "$prefix/usr/bin/aarch64-linux-gnu-$2" ${3:-} "\$@"
CONF
  chmod +x "$prefix/bin/$1"
}
# Its C library names its parts by paths from the root of the system.
tool cc gcc "\"--sysroot=$prefix\""
tool ar ar
tool ld ld
cat >"$work/run" <<CONF
#!/bin/sh
exec "$prefix/usr/bin/qemu-aarch64-static" -L "$prefix/usr/aarch64-linux-gnu" \
  "\$@"
CONF
chmod +x "$work/run"
echo 'int main(void) { return 7; }' >"$work/seven.c"
"$prefix/bin/cc" "$work/seven.c" -o "$work/seven" ||
  fail "the compiler does not run"
status=0
"$work/run" "$work/seven" || status=$?
[[ $status -eq 7 ]] || fail "the emulator does not run"
mv "$work/run" "$prefix/bin/run"
