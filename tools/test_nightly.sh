#!/usr/bin/env bash
# Runs the tests with the nightly builds of JAX and Keras and the newest of
# everything else, which no lock file has.
#
#   JAX_NIGHTLY_INDEX=URL tools/test_nightly.sh [TARGET...]
#
# The index is the one that JAX's documentation names for its nightly builds.
# Without targets all tests run. The interpreter is $PYTHON or python3.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
index=${JAX_NIGHTLY_INDEX:?the index of the nightly builds of JAX}
env=$root/.venv/nightly

uv() {
  "$root/tools/dev" python -m uv "$@"
}
install() { # [options] requirements
  uv pip install --quiet --python "$env/bin/python" "$@"
}

rm -rf "$env"
"${PYTHON:-python3}" -m venv --without-pip "$env"
install --requirements "$root/pyproject.toml" --extra examples \
  --group "$root/pyproject.toml:build" --group "$root/pyproject.toml:test"
# One of the nightly builds, though versions of the same number may be newer
# on the usual index: uv takes a package from the first index that has it.
install --prerelease allow --upgrade --index "$index" jax jaxlib
# The nightly Keras is a distribution of another name with the same module.
uv pip uninstall --quiet --python "$env/bin/python" keras
install --prerelease allow keras-nightly
uv pip freeze --quiet --python "$env/bin/python"

[[ $# -gt 0 ]] || set -- //...
"$root/tools/dev" bazel test "--repo_env=PYTHON_BIN_PATH=$env/bin/python" "$@"
