#!/usr/bin/env bash
# Checks that pip installs flaxlayer into an empty environment: from a wheel, with
# the demo; without a compiler; from an sdist; and with an older jaxlib than the
# one it was built with.
#
#   tools/check_pip_install.sh          (the interpreter is $PYTHON or python3)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/env"
python=$work/env/bin/python
pip=("$python" -m pip -qq --disable-pip-version-check)

expect() { # Python expression over `report`
  # From another folder, so that it is the installed package that is imported.
  (cd "$work" && JAX_PLATFORMS=cpu env/bin/flaxlayer doctor)
  (cd "$work" && JAX_PLATFORMS=cpu "$python" - "$1") <<'PY'
import sys

import flaxlayer

report = flaxlayer.explain_kernels()
if not eval(sys.argv[1], {"report": report}):
    sys.exit(f"expected {sys.argv[1]}")
PY
}

echo "== a wheel, and the first minutes with it"
"${pip[@]}" wheel --no-deps --wheel-dir "$work/dist" "$root"
"${pip[@]}" install "$(echo "$work"/dist/flaxlayer-*.whl)[examples]"
expect "report.available"
(cd "$work" && env/bin/flaxlayer demo --short)

echo "== without a compiler"
CC=/nonexistent/cc CXX=/nonexistent/c++ \
  "${pip[@]}" install --force-reinstall --no-deps "$root"
expect "'/nonexistent/c' in report.unavailable_reason"

echo "== from an sdist"
# pip has no command for it; this is what pip runs to build one.
"${pip[@]}" install --upgrade "setuptools>=77" pybind11
(
  cd "$root"
  "$python" -c 'import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])' \
    "$work" >/dev/null
)
"${pip[@]}" install --force-reinstall --no-deps "$work"/flaxlayer-*.tar.gz
expect "report.available"

echo "== built with the newest jaxlib, used with the oldest"
"${pip[@]}" install --force-reinstall --no-deps --no-build-isolation "$root"
expect "report.available"
"${pip[@]}" install --require-hashes --no-deps --only-binary :all: \
  -r "$root/tools/requirements/floor.txt"
expect "'incompatible' in report.unavailable_reason"
