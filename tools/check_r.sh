#!/usr/bin/env bash
# Checks the R package in r/: its manual, `R CMD check`, with the tests and the
# vignette, and the example, with the package as it is installed.
#
#   tools/check_r.sh ROOT WORK
#
# `tools/dev r` runs it, with R on the PATH and Python in the environment.
set -euo pipefail

root=${1:?usage: check_r.sh ROOT WORK}
work=${2:?usage: check_r.sh ROOT WORK}
fail() {
  echo "check_r.sh: $*" >&2
  exit 1
}

cd "$work"
cp -r "$root/r" flaxlayer
# Another roxygen2 writes other files.
Rscript - <<'R' >manual.log 2>&1 || { cat manual.log && fail "no manual"; }
version <- packageVersion("roxygen2")
if (read.dcf("flaxlayer/DESCRIPTION")[, "RoxygenNote"] == version) {
  roxygen2::roxygenise("flaxlayer")
}
R
diff -r "$root/r" flaxlayer ||
  fail "the manual is not that of the sources; in r/: roxygen2::roxygenise()"

# Without the network: a repository that has no package, and the clock of this
# machine. Nobody need have keras3, which the package works with. R takes another
# locale than one of UTF-8 for a warning.
mkdir -p cran/src/contrib
touch cran/src/contrib/PACKAGES
echo "options(repos = c(CRAN = 'file://$PWD/cran'))" >profile
export R_PROFILE=$PWD/profile LC_ALL=C.UTF-8
export _R_CHECK_SYSTEM_CLOCK_=0
export _R_CHECK_PACKAGE_DEPENDS_IGNORE_MISSING_ENHANCES_=true
R CMD build flaxlayer >build.log 2>&1 || { cat build.log && exit 1; }
# The vignette has just been built.
R CMD check --no-manual --no-build-vignettes flaxlayer_*.tar.gz >check.log 2>&1 || true
grep -q '^Status: OK' flaxlayer.Rcheck/00check.log || {
  cat check.log flaxlayer.Rcheck/tests/*.fail 2>/dev/null || true
  fail "R CMD check is not clean"
}
grep -h '^\[' flaxlayer.Rcheck/tests/*.Rout | tail -n 1

R_LIBS=$PWD/flaxlayer.Rcheck Rscript "$root/examples/r/train.R" out
