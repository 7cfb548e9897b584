#!/usr/bin/env bash
# Writes the bill of materials of the release in dist/, in CycloneDX's format:
# the package and what is installed with it, in the versions that the tests of
# the release ran with.
#
#   tools/dev sbom
#
# which puts uv and cyclonedx-py on the PATH, and names the interpreter.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
python=${PYTHON:?run tools/dev sbom}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' \
  "$root/python/flaxlayer/version.py")
sbom=$root/dist/flaxlayer-$version.cdx.json

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv --without-pip "$work/env"
install=(uv pip install --quiet --python "$work/env/bin/python")
# The wheel that was built, never one of the same version from an index.
"${install[@]}" --no-deps --no-index --find-links "$root/dist" \
  "flaxlayer==$version" || {
  echo "tools/dev sbom: dist/ has no wheel of flaxlayer $version for" \
    "$("$python" --version); tools/dev wheel builds them" >&2
  exit 1
}
"${install[@]}" --constraint "$root/tools/requirements/dev.txt" \
  "flaxlayer==$version"

# Whose version is not in pyproject.toml, and belongs into the bill.
sed "s/^dynamic = \[\"version\"\]\$/version = \"$version\"/" \
  "$root/pyproject.toml" >"$work/pyproject.toml"
grep -qx "version = \"$version\"" "$work/pyproject.toml"
cyclonedx-py environment --pyproject "$work/pyproject.toml" --mc-type library \
  --output-reproducible --output-format JSON --output-file "$sbom" \
  "$work/env/bin/python"
echo "$sbom"
