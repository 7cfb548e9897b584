#!/usr/bin/env bash
# Runs the parity tests and those of the native kernels on an installed wheel,
# with the oldest dependencies that are supported and with the newest, side by
# side. cibuildwheel runs it, and so does `tools/dev wheel --native`.
#
#   tools/wheels/test_wheel.sh WHEEL        (the interpreter is $PYTHON or python)
set -euo pipefail

wheel=${1:?usage: test_wheel.sh WHEEL}
root=$(cd "$(dirname "$0")/../.." && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export KERAS_BACKEND=jax JAX_PLATFORMS=cpu FLAXLAYER_REQUIRE_NATIVE=1
# Tests compile many a program twice, or have done so before, as
# tools/bazel/pytest_main.py has it.
export JAX_PERSISTENT_CACHE_MIN_{COMPILE_TIME_SECS=0,ENTRY_SIZE_BYTES=-1}
export JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES=none

"${PYTHON:-python}" "$root/tools/wheels/check_wheel.py" "$wheel"

# The tests without the sources, so that they import what is installed.
cp -r "$root/tests" "$root/pyproject.toml" "$work"

test_with() { # the name of a lock file
  local env=$work/env-$1
  echo "== $1.txt"
  "${PYTHON:-python}" -m venv "$env"
  local pip=("$env/bin/python" -m pip -qq --disable-pip-version-check)
  "${pip[@]}" install --require-hashes --no-deps --only-binary :all: \
    -r "$root/tools/requirements/$1.txt"
  "${pip[@]}" install --no-deps --no-index "$wheel"
  if [[ -n ${FLAXLAYER_COMPILED:-} ]]; then
    cp -r "$FLAXLAYER_COMPILED" "$env/jax"
  fi
  cd "$work"
  "$env/bin/python" -m flaxlayer.doctor
  JAX_COMPILATION_CACHE_DIR=$env/jax "$env/bin/python" -m pytest -q \
    -p no:cacheprovider tests/parity tests/python/ops
}

# Both as jobs, since a function whose status is asked for goes on after errors.
test_with floor >"$work/floor.log" 2>&1 &
oldest=$!
test_with dev &
newest=$!
failed=()
wait "$newest" || failed+=(dev.txt)
wait "$oldest" || failed+=(floor.txt)
cat "$work/floor.log"
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "test_wheel.sh: tests failed with ${failed[*]}" >&2
  exit 1
fi
