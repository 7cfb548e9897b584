#!/usr/bin/env bash
# Installs what is in dist/ as others will: with pip and with uv, from an index,
# into empty environments of each Python, where it has to find its kernels and
# train the demo. With the last Python it is also built from the sdist: as it is,
# without a compiler, and for an older jaxlib than the one it was built with.
#
#   tools/dev rehearse [VERSION...]
#
# which puts twine and uv on the PATH. Without versions of Python, those of the
# wheels that this machine has. Dependencies come from the index that pip and uv
# use anyway.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# shellcheck source=tools/pythons.sh
. "$root/tools/pythons.sh"
export JAX_PLATFORMS=cpu NO_PROXY=127.0.0.1
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' \
  "$root/python/flaxlayer/version.py")
work=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server"; rm -rf "$work"' EXIT
cd "$work" # where no sources can be imported

files=("$root/dist/flaxlayer-$version"{-*.whl,.tar.gz})
[[ -f ${files[0]} && -f ${files[-1]} ]] || {
  echo "tools/dev rehearse: dist/ has no wheels or no sdist of flaxlayer" \
    "$version; tools/dev wheel and tools/dev sdist make them" >&2
  exit 1
}
twine check --strict "${files[@]}"
mkdir -p index/flaxlayer
cp "${files[@]}" index/flaxlayer
python -u -m http.server --bind 127.0.0.1 --directory index 0 >log 2>&1 &
server=$!
until port=$(sed -n 's/^Serving HTTP on .* port \([0-9]*\) .*/\1/p' log) &&
  [[ $port ]]; do
  kill -0 "$server" || exit
  sleep 0.1
done
index=http://127.0.0.1:$port

use() { # environment
  "$1/bin/flaxlayer" doctor
  expect "$1" report.available
  "$1/bin/python" -m flaxlayer.demo --short | grep -a '^test accuracy'
}

expect() { # environment, Python expression over `report`
  "$1/bin/python" - "$2" <<'PY'
import sys

import flaxlayer

report = flaxlayer.explain_kernels()
if not eval(sys.argv[1], {"report": report}):
    sys.exit(f"expected {sys.argv[1]}")
PY
}

pip() { # arguments; in the environment for pip
  pip-env/bin/python -m pip -qq --disable-pip-version-check "$@"
}

# Those of the wheels.
mapfile -t pythons < <(
  printf '%s\n' "${files[@]}" | sed -n 's/.*-cp3\([0-9]*\)-.*/3.\1/p' | sort -uV
)
for minor in "${@:-${pythons[@]}}"; do
  python=$(find_python "$minor") || {
    echo "tools/dev rehearse: this machine has no Python $minor" >&2
    [[ $# -eq 0 ]] || exit 1
    continue
  }
  rm -rf pip-env uv-env
  echo "== Python $minor, pip"
  "$python" -m venv pip-env
  # First the package, from nowhere else, then what it depends on.
  pip install --no-deps --only-binary :all: --index-url "$index" \
    "flaxlayer==$version"
  pip install "flaxlayer[examples]==$version"
  use pip-env

  echo "== Python $minor, uv"
  uv venv --quiet --python "$python" uv-env
  uv pip install --quiet --python uv-env/bin/python --index "$index" \
    --only-binary flaxlayer "flaxlayer[examples]==$version"
  use uv-env
done

echo "== the sdist"
tar -xf "index/flaxlayer/flaxlayer-$version.tar.gz"
build=(install --force-reinstall --no-deps "./flaxlayer-$version")
pip "${build[@]}"
expect pip-env report.available

echo "== without a compiler"
CC=/nonexistent/cc CXX=/nonexistent/c++ pip "${build[@]}"
expect pip-env "'/nonexistent/c' in report.unavailable_reason"

echo "== built with the newest jaxlib, used with the oldest"
pip install --upgrade "setuptools>=77" pybind11
pip "${build[@]}" --no-build-isolation
expect pip-env report.available
pip install --require-hashes --no-deps --only-binary :all: \
  -r "$root/tools/requirements/floor.txt"
expect pip-env "'incompatible' in report.unavailable_reason"
