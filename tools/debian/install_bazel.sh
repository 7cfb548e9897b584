#!/usr/bin/env bash
# Unpacks Debian's Bazel 7 below a folder of its own.
#
#   tools/debian/install_bazel.sh PREFIX
#
# For machines that have Debian's archive but neither Bazel nor a way to its
# downloads. The packages come from a newer Debian (DEBIAN_SUITE) than the one
# that runs, so they are not installed: they are unpacked and made to use the
# C library beside them. The rule sets that MODULE.bazel and WORKSPACE name are
# in the packages; PREFIX/bazelrc points Bazel at them, so no registry is asked.
#
# Needs apt, dpkg-deb and patchelf, and write access to PREFIX; not root.
# PREFIX/bazel is the command; it is written last, so it exists only where
# everything worked.
set -euo pipefail

prefix=${1:?usage: install_bazel.sh PREFIX}
here=$(cd "$(dirname "$0")" && pwd -P)
# shellcheck source=tools/debian/apt.sh
. "$here/apt.sh"

patchelf --version >/dev/null 2>&1 ||
  fail "patchelf does not run; as root: apt-get install -y patchelf"

# Bazel, its jars, a Java runtime and the shared libraries they load; not the
# compilers, the JDK and the Python that the package depends on too. libblake3
# is what Bazel's JNI library needs and the package does not name.
wanted='^(bazel-.*|googletest|.*-java|openjdk-[0-9]+-jre-headless|velocity'
wanted+='|libzstd-jni1|libblake3-0|libc6|libgcc-s1|libstdc\+\+6|zlib1g'
wanted+='|lib(absl|cares|grpc|protobuf|re2-|ssl|systemd|zstd1).*)$'
open_suite "${DEBIAN_SUITE:-forky}"
mapfile -t packages < <(
  dependencies bazel-bootstrap libblake3-0 googletest |
    grep -E "$wanted" | grep -v -e '-dev$'
)
install "$prefix" "${packages[@]}"

# The executables use the loader and the libraries beside them. An rpath of
# the older kind, so that it serves the libraries' own dependencies as well.
loader=$(find "$prefix"/usr/lib{,64} -name 'ld-linux-*.so.*' -print -quit)
libs=$(dirname "$(find "$prefix/usr/lib" -name libc.so.6 -print -quit)")
java=$(find "$prefix/usr/lib/jvm" -path '*/bin/java' -type f -print -quit)
jre=${java%/bin/java}
for exe in "$prefix/usr/bin/bazel" "$java" "$jre/lib/jspawnhelper" \
  "$prefix/usr/libexec/${libs##*/}/bazel"/*; do
  rpath=$libs
  [[ $exe != "$jre"/* ]] || rpath=$jre/lib:$jre/lib/server:$libs
  patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$rpath" "$exe"
done

# Jars that others find through an absolute Class-Path in their manifests.
classpath=$prefix/usr/share/bazel/bazel_classpath_debian_depends.txt
{
  echo
  for jar in perfmark-api protobuf protobuf-util animal-sniffer-annotations \
    error-prone-annotations; do
    echo "/usr/share/java/$jar.jar"
  done
} >>"$classpath"
sed -i -e '/^$/d' -e "s|^/usr/share/java|$prefix/usr/share/java|" "$classpath"

# GoogleTest from its packaged sources, and empty stand-ins for modules that
# Bazel's own tools name and that no build here uses.
modules=$prefix/modules
for module in apple_support buildozer googletest protobuf zlib; do
  mkdir -p "$modules/$module"
  echo "module(name = \"$module\")" >"$modules/$module/MODULE.bazel"
  touch "$modules/$module/BUILD" "$modules/$module/WORKSPACE"
done
cp "$here/googletest.BUILD" "$modules/googletest/BUILD"
echo 'bazel_dep(name = "rules_cc")' >>"$modules/googletest/MODULE.bazel"
ln -s "$prefix"/usr/src/googletest/{googlemock,googletest} "$modules/googletest"
cp "$here/buildozer_binary.bzl" "$modules/buildozer"

share=$prefix/usr/share/bazel
cat >"$prefix/bazelrc" <<CONF
startup --install_base=$share
startup --trust_install_base
startup --server_javabase=$jre
common --lockfile_mode=off
$(sed -n "s|^common --override_module=\(.*\)=/usr|common --override_module=\1=$prefix/usr|p" "$prefix/etc/bazel/bazelrc")
$(for dir in "$modules"/*; do echo "common --override_module=${dir##*/}=$dir"; done)
common:workspace --override_repository=bazel_skylib=$share/tools/skylib
common:workspace --override_repository=com_google_googletest=$modules/googletest
common:workspace --override_repository=platforms=$share/tools/platforms
common:workspace --override_repository=rules_cc=$share/rules/cc
common:workspace --override_repository=rules_java=$share/rules/java
common:workspace --override_repository=rules_python=$share/rules/python
CONF
cat >"$work/bazel" <<CONF
#!/bin/sh
exec "$prefix/usr/bin/bazel" --nosystem_rc --bazelrc="$prefix/bazelrc" "\$@"
CONF
chmod +x "$work/bazel"
version=$("$work/bazel" --version) || fail "Bazel does not run"
[[ $version == "bazel 7."* ]] ||
  fail "$suite has $version, not Bazel 7; set DEBIAN_SUITE to one that has"
mv "$work/bazel" "$prefix/bazel"
