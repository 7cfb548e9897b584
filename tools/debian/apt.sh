# What the other scripts in this folder need to get Debian's packages without
# installing them. They source it.
#
#   open_suite [SUITE]      look for a release of Debian, or the one that runs,
#                           in the archives that the machine's apt uses; $suite
#   dependencies NAME...    print the names of packages and of all they depend on
#   install PREFIX NAME...  unpack these packages and no others below a folder, in
#                           place of an earlier installation; $prefix is its path
#
# $work is a folder for temporary files.
# shellcheck shell=bash

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for tool in apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || fail "no $tool: this is not Debian"
done

open_suite() { # [SUITE]
  # shellcheck disable=SC1091
  suite=${1:-$(. /etc/os-release && echo "${VERSION_CODENAME:-}")}
  [[ -n $suite ]] || fail "/etc/os-release names no release of Debian"

  # The archives that this machine's apt uses. --print-uris reads its sources
  # only, so that it does not matter whether its lists were ever fetched.
  local archive archives found=
  mapfile -t archives < <(
    if [[ -n ${DEBIAN_MIRROR:-} ]]; then
      echo "$DEBIAN_MIRROR"
    else
      apt-get update --print-uris 2>/dev/null |
        sed -n "s|^'\(.*\)/dists/.*/InRelease'.*|\1|p" | awk '!seen[$0]++'
    fi
  )
  [[ ${#archives[@]} -gt 0 ]] ||
    fail "apt's sources name no archive; set DEBIAN_MIRROR to one of Debian's"

  # An apt with a state of its own, which can write to nothing but this folder.
  mkdir -p "$work"/{lists,archives}/partial "$work/debs"
  touch "$work/status"
  cat >"$work/apt.conf" <<CONF
Dir::State "$work";
Dir::State::status "$work/status";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Dpkg::Use-Pty "false";
CONF
  export APT_CONFIG=$work/apt.conf

  # Only Debian's own archive has the suite; security and third-party ones do
  # not, and the keyring accepts nobody else's signature.
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  for archive in "${archives[@]}"; do
    echo "deb [signed-by=$keyring] $archive $suite main" >"$work/sources.list"
    if apt-get -qq update 2>"$work/errors"; then
      found=$archive
      break
    fi
  done
  [[ -n $found ]] ||
    fail "no archive in apt's sources serves $suite: $(cat "$work/errors")"
}

dependencies() { # NAME...
  apt-get --print-uris -qq -y install "$@" |
    awk '{ sub(/_.*/, "", $2); print $2 }'
}

install() { # PREFIX NAME...
  prefix=$1
  shift
  if [[ -e $prefix && ! -d $prefix/usr/lib && -n $(ls -A "$prefix") ]]; then
    fail "$prefix exists and is not an installation of this script"
  fi
  (cd "$work/debs" && apt-get -qq download "$@")
  rm -rf "$prefix"
  mkdir -p "$prefix"
  prefix=$(cd "$prefix" && pwd -P)

  local deb link
  # Merged /usr: some packages still ship files below /lib.
  mkdir -p "$prefix"/usr/{bin,lib,lib64}
  ln -s usr/lib "$prefix/lib"
  ln -s usr/lib64 "$prefix/lib64"
  for deb in "$work"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" |
      tar -x -C "$prefix" --keep-directory-symlink --no-same-owner \
        --exclude=./usr/share/doc --exclude=./usr/share/man \
        --exclude=./usr/share/maven-repo
  done

  # Links to absolute paths mean paths below the prefix.
  find "$prefix" -type l -lname '/*' -print0 |
    while IFS= read -r -d '' link; do
      ln -sfn "$prefix$(readlink "$link")" "$link"
    done
}
