#!/usr/bin/env bash
# Runs the parity tests and those of the native kernels on an installed wheel,
# with the oldest dependencies that are supported and with the newest. cibuildwheel
# runs it, and so does `tools/dev wheel --native`.
#
#   tools/wheels/test_wheel.sh WHEEL        (the interpreter is $PYTHON or python)
set -euo pipefail

wheel=${1:?usage: test_wheel.sh WHEEL}
root=$(cd "$(dirname "$0")/../.." && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export KERAS_BACKEND=jax JAX_PLATFORMS=cpu FLAXLAYER_REQUIRE_NATIVE=1

"${PYTHON:-python}" "$root/tools/wheels/check_wheel.py" "$wheel"

# The tests without the sources, so that they import what is installed.
cp -r "$root/tests" "$root/pyproject.toml" "$work"
cd "$work"
for lock in floor dev; do
  echo "== $lock.txt"
  "${PYTHON:-python}" -m venv env
  pip=(env/bin/python -m pip -qq --disable-pip-version-check)
  "${pip[@]}" install --require-hashes --no-deps --only-binary :all: \
    -r "$root/tools/requirements/$lock.txt"
  "${pip[@]}" install --no-deps --no-index "$wheel"
  env/bin/python -m flaxlayer.doctor
  env/bin/python -m pytest -q -p no:cacheprovider tests/parity tests/python/ops
  rm -rf env
done
