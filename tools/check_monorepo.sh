#!/usr/bin/env bash
# Checks that another Bazel workspace, examples/monorepo, can use flaxlayer and
# give it its own third-party targets: with MODULE.bazel and with WORKSPACE.
#
#   tools/check_monorepo.sh             (the interpreter is $PYTHON or python3)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
trap 'tools/dev monorepo shutdown' EXIT

fail() {
  echo "check_monorepo.sh: $*" >&2
  exit 1
}

# The targets that the importer's .bazelrc hands to flaxlayer.
handed=$(sed -n 's|^build --@flaxlayer//.*=\(.*/\([^/]*\)\)$|\1:\2|p' \
  examples/monorepo/.bazelrc | sort)

for mode in module workspace; do
  echo "== $mode"
  config=()
  [[ $mode == module ]] || config=(--config=workspace)

  tools/dev monorepo test "${config[@]}" //...
  output=$(tools/dev monorepo run "${config[@]}" //app:train)
  printf '%s\n' "$output"
  [[ $output == *"native extension: loaded"* ]] ||
    fail "the binary runs without the native kernels"

  deps=$(tools/dev monorepo cquery "${config[@]}" \
    'deps(@flaxlayer//python/flaxlayer)')
  used=$(sed -n 's|^\(//third_party/.*\) (.*|\1|p' <<<"$deps" | sort -u)
  [[ $used == "$handed" ]] ||
    fail "flaxlayer uses other targets of the importer than it was handed:" \
      "$(diff <(echo "$handed") <(echo "$used"))"
  [[ $deps != *python_env* ]] ||
    fail "flaxlayer still uses its own environment:" \
      "$(grep python_env <<<"$deps")"
done
