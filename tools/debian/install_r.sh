#!/usr/bin/env bash
# Unpacks Debian's R, with reticulate and what tests and checks a package, below
# a folder of its own.
#
#   tools/debian/install_r.sh PREFIX
#
# For `tools/dev r` on machines that have no R. The packages are those of the
# Debian that runs, so they use its C library; about 60 MB to download, 150 MB
# on disk.
#
# Needs apt and dpkg-deb, and write access to PREFIX; not root. PREFIX/bin has
# the commands `R` and `Rscript`; the latter is written last, so it exists only
# where everything worked.
set -euo pipefail

prefix=${1:?usage: install_r.sh PREFIX}
here=$(cd "$(dirname "$0")" && pwd -P)
# shellcheck source=tools/debian/apt.sh
. "$here/apt.sh"

# R, its packages, and the shared libraries that they load; nothing that draws,
# and not the Python that reticulate's package depends on.
wanted='^(r-.*|zlib1g|lib(blas3|bz2|deflate|gfortran|gomp|icu'
wanted+='|lapack3|lzma|pcre2|png|quadmath|readline|stdc|tinfo|tirpc3|uv|xml2).*)$'
open_suite
mapfile -t packages < <(
  dependencies r-base-core r-cran-{knitr,markdown,reticulate,roxygen2,testthat} |
    grep -E "$wanted"
)
install "$prefix" "${packages[@]}"
mkdir "$prefix/bin"

# R's folders are written into its script, which is that of its settings too:
# these are made when the package is installed.
home=$prefix/usr/lib/R
cp "$home/etc/Renviron.ucf" "$prefix/etc/R/Renviron"
sed -i -E "s|^(R_[A-Z]+_DIR=)/usr|\1$prefix/usr|" "$home/bin/R"
libs=$home/lib
for lib in libblas.so.3 liblapack.so.3 libgfortran.so.5; do
  libs+=:$(dirname "$(find "$prefix/usr/lib" -name "$lib" -print -quit)")
done

command_of_r() { # NAME
  cat <<CONF
#!/bin/sh
export RHOME="$home" R_LD_LIBRARY_PATH="$libs"
export R_LIBS_SITE="$prefix/usr/lib/R/site-library" R_LIBS_USER=NULL
exec "$home/bin/$1" "\$@"
CONF
}
command_of_r R >"$prefix/bin/R"
command_of_r Rscript >"$work/Rscript"
chmod +x "$prefix/bin/R" "$work/Rscript"
"$work/Rscript" -e 'for (name in c("knitr", "markdown", "reticulate", "roxygen2",
  "testthat")) loadNamespace(name)' >/dev/null || fail "R does not run"
mv "$work/Rscript" "$prefix/bin/Rscript"
