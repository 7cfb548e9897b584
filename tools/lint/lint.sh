#!/usr/bin/env bash
# Every linter, over the files that git knows or would add; --fix lets those
# that can write do so. Run as `tools/dev lint`, which puts the pinned tools on
# the PATH. Ends non-zero if any of them found something, after running all.
set -uo pipefail

cd "$(dirname "$0")/../.." || exit
fix=
case ${1:-} in
  "") ;;
  --fix) fix=1 ;;
  *)
    echo "usage: tools/dev lint [--fix]" >&2
    exit 2
    ;;
esac

# buildifier comes from npm: no Python package has it.
find_buildifier() {
  local id dir
  id=$(cat tools/lint/package*.json | sha256sum)
  dir=${FLAXLAYER_CACHE:?run tools/dev lint}/buildifier-${id:0:8}
  buildifier=$dir/node_modules/.bin/buildifier
  [[ ! -x $buildifier ]] || return 0
  command -v npm >/dev/null || {
    echo "no npm, which installs buildifier; as root: apt-get install -y npm" >&2
    return 1
  }
  mkdir -p "$dir" && cp tools/lint/package*.json "$dir" &&
    (cd "$dir" && npm ci --silent --ignore-scripts --no-audit --no-fund) >&2
}

files() { # pathspecs; deleted files are still in the index
  git ls-files --cached --others --exclude-standard -- "$@" |
    while IFS= read -r file; do
      [[ ! -f $file ]] || printf '%s\n' "$file"
    done
}

failed=()
run() { # name command [arguments]
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "ok      $name"
  else
    echo "FAILED  $name"
    printf '%s\n' "$output" | sed 's/^/  /'
    failed+=("$name")
  fi
}

mapfile -t bazel < <(files '*MODULE.bazel' '*WORKSPACE' '*.bzl' '*BUILD')
mapfile -t cpp < <(files '*.cc' '*.h' '*.inc')
mapfile -t shell < <(files '*.sh' tools/dev .ci/run)

if [[ $fix ]]; then
  ruff_check=(--fix) ruff_format=() clang_format=(-i) buildifier_flags=(--mode=fix)
else
  ruff_check=() ruff_format=(--check) clang_format=(--dry-run --Werror)
  buildifier_flags=(--mode=check)
fi

run "ruff check" ruff check --quiet "${ruff_check[@]}" .
run "ruff format" ruff format --quiet "${ruff_format[@]}" .
run "pyrefly" pyrefly check --summary=none
run "clang-format" clang-format --style=file "${clang_format[@]}" "${cpp[@]}"
run "shellcheck" shellcheck "${shell[@]}"
run "BUILD files" python tools/lint/check_build_files.py
run "BUILD deps" python -m tools.lint.check_deps
run "BUILD visibility" python -m tools.lint.check_visibility
buildifier=
run_buildifier() {
  find_buildifier &&
    "$buildifier" --lint=warn "--warnings=all" "${buildifier_flags[@]}" "$@"
}
run "buildifier" run_buildifier "${bazel[@]}"

[[ ${#failed[@]} -eq 0 ]]
